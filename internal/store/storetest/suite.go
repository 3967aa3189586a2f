package storetest

import (
	"testing"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/keys"
	"git.sentryagent.ai/sentryagent-idp/internal/organization"
	"git.sentryagent.ai/sentryagent-idp/internal/revocation"
	"git.sentryagent.ai/sentryagent-idp/internal/store"
	"git.sentryagent.ai/sentryagent-idp/internal/token"
	"git.sentryagent.ai/sentryagent-idp/internal/transparency"
)

// One type serves them all.
var (
	_ agent.Store          = (*store.Store)(nil)
	_ audit.Store          = (*store.Store)(nil)
	_ audit.RetentionStore = (*store.Store)(nil)
	_ credential.Store     = (*store.Store)(nil)

	_ credential.RotationStore = (*store.Store)(nil)
	_ credential.ScheduleStore = (*store.Store)(nil)
	_ credential.InstanceStore = (*store.Store)(nil)

	_ keys.Store            = (*store.Store)(nil)
	_ organization.Store    = (*store.Store)(nil)
	_ token.Source          = (*store.Store)(nil)
	_ token.RevocationStore = (*store.Store)(nil)
	_ revocation.Store      = (*store.Store)(nil)
	_ transparency.Store    = (*store.Store)(nil)
	_ transparency.KeyStore = (*store.Store)(nil)
)

// test is one test of the suite.
type test struct {
	name string
	run  func(b *bench)
}

// Run runs the whole suite. Every test calls open for a database of its own that
// holds nothing but what the migrations put there; open also sees to its closing.
// Tests run in parallel, so open must be safe to call from several goroutines.
func Run(t *testing.T, open func(t *testing.T) *store.Store) {
	t.Helper()
	for _, group := range []struct {
		name  string
		tests []test
	}{
		{"Organizations", organizationTests()},
		{"Agents", agentTests()},
		{"AgentLists", agentListTests()},
		{"NewAgents", newAgentTests()},
		{"Credentials", credentialTests()},
		{"Holders", holderTests()},
		{"Policies", policyTests()},
		{"Schedule", scheduleTests()},
		{"Instances", instanceTests()},
		{"Records", recordTests()},
		{"Events", eventTests()},
		{"Counter", counterTests()},
		{"Revocations", revocationTests()},
		{"RevocationsOfAgents", revocationsOfAgentsTests()},
		{"Keys", keyTests()},
		{"Tree", treeTests()},
		{"Retention", retentionTests()},
		{"Entries", entryTests()},
		{"Streams", streamTests()},
		{"Concurrency", concurrencyTests()},
		{"Failures", failureTests()},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, one := range group.tests {
				t.Run(one.name, func(t *testing.T) {
					t.Parallel()
					one.run(newBench(t, open(t)))
				})
			}
		})
	}
}
