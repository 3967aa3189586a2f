package token_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
	"git.sentryagent.ai/sentryagent-idp/internal/token"
)

// fleet gives an entry for every key id, as a store would: fresh values each time.
type fleet struct{}

func (fleet) EntryByKeyID(_ context.Context, keyID string) (*token.Entry, error) {
	id := uuid.New()
	return token.NewEntry(agent.Agent{
		ID: id, OrganizationID: uuid.New(), Email: keyID + "@sentryagent.ai", Type: "invoice-reader", Version: "v1.2.0", Owner: "finance",
		DeploymentEnv: "production", Status: agent.Active, Metadata: make([]byte, 16<<10), CreatedAt: time.Now(), Revision: 1,
		Capabilities: scope.New(keyID+":read", keyID+":write", keyID+":list", keyID+":summarize", keyID+":export"),
	}, credential.Credential{ID: uuid.New(), AgentID: id, KeyID: keyID, Verifier: credential.Verifier{
		Bcrypt: make([]byte, 60), Fingerprint: make([]byte, 32), FingerprintKeyID: "0123456789ab",
	}}, 1), nil
}

func (fleet) EntryByCredential(context.Context, uuid.UUID) (*token.Entry, error) {
	return nil, token.ErrNoEntry
}

func (fleet) Counter(context.Context) (int64, error) { return 1, nil }

// TestWhatIsRememberedOfAnAgentIsSmall measures what an entry costs, metadata of
// 16 KiB left out, and that CACHE_ENTRIES bounds how many there are (R41).
func TestWhatIsRememberedOfAnAgentIsSmall(t *testing.T) {
	const entries, bound = 20_000, 3 << 10
	d, err := token.NewDirectory(fleet{}, entries)
	if err != nil {
		t.Fatal(err)
	}
	before := heap()
	for i := range 3 * entries {
		if _, _, err := d.Cached(t.Context(), fmt.Sprintf("k%011d", i)); err != nil {
			t.Fatal(err)
		}
	}
	each := (heap() - before) / entries
	t.Logf("%d bytes an entry", each)
	if each > bound {
		t.Errorf("an entry costs %d bytes, more than %d, or more than %d are kept", each, bound, entries)
	}
	runtime.KeepAlive(d)
}

// heap is what is in use after everything that is not has been collected.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
