package storetest

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
)

func instanceTests() []test {
	return []test{
		{"instances read back, newest first", instancesRead},
		{"a time never goes back", instancesForward},
		{"no more instances are kept than the bound", instancesBounded},
		{"many may note the same instances at once", instancesTogether},
		{"instances that are not seen are forgotten", instancesForgotten},
	}
}

func (b *bench) sighting(c credential.Credential, name string, at time.Time) credential.Instance {
	return credential.Instance{CredentialID: c.ID, Name: name, Named: true, FirstUsedAt: at, LastUsedAt: at}
}

func (b *bench) instances(c credential.Credential, since time.Time) []credential.Instance {
	b.Helper()
	all, err := b.store.AgentInstances(b.Context(), c.OrganizationID, c.AgentID, since)
	b.must("listing instances", err)
	return all
}

func instancesRead(b *bench) {
	a, first := b.create(b.draft())
	second := b.add(a, b.credential(a))
	_, foreign := b.create(b.draft())
	one, two, three := b.sighting(first, "one", b.now()), b.sighting(first, "two", b.now()), b.sighting(second, "one", b.now())
	two.Named = false
	like := b.sighting(first, "two", b.now()) // a name that reads like an address is another
	counter := b.counter()
	b.must("noting", b.store.NoteInstances(b.Context(), []credential.Instance{one, two, three, like, b.sighting(foreign, "one", b.now())}))
	wantSame(b, "the instances", b.instances(first, one.LastUsedAt), []credential.Instance{like, three, two, one})
	wantSame(b, "the newer ones", b.instances(first, three.LastUsedAt), []credential.Instance{like, three})
	if b.counter() != counter {
		b.Error("noting instances counts as a change")
	}
	_, err := b.store.AgentInstances(b.Context(), b.org, uuid.New(), time.Time{})
	b.wantFault("an unknown agent", err, fault.CodeAgentNotFound)
	_, err = b.store.AgentInstances(b.Context(), b.organization("globex", nil).ID, a.ID, time.Time{})
	b.wantFault("another organization", err, fault.CodeAgentNotFound)
}

func instancesForward(b *bench) {
	_, c := b.create(b.draft())
	early, late, later := b.sighting(c, "one", b.now()), b.sighting(c, "one", b.now()), b.sighting(c, "one", b.now())
	for _, step := range []struct{ note, last credential.Instance }{{late, late}, {early, late}, {late, late}, {later, later}} {
		b.must("noting", b.store.NoteInstances(b.Context(), []credential.Instance{step.note}))
		want := step.last
		want.FirstUsedAt = late.FirstUsedAt
		wantSame(b, "the instance", b.instances(c, early.LastUsedAt), []credential.Instance{want})
	}
}

func instancesBounded(b *bench) {
	a, c := b.create(b.draft())
	other := b.add(a, b.credential(a))
	var many []credential.Instance
	at := b.now()
	for i := range credential.MaxInstances + 300 {
		many = append(many, b.sighting(c, fmt.Sprintf("i-%d", i), at))
	}
	b.must("noting", b.store.NoteInstances(b.Context(), append(many, b.sighting(other, "one", at))))
	if n := len(b.instances(c, at)); n != credential.MaxInstances+1 {
		b.Errorf("%d are kept, want %d and the other credential's", n, credential.MaxInstances)
	}
	again := b.now()
	many[0].LastUsedAt, many[1200].LastUsedAt = again, again
	b.must("noting again", b.store.NoteInstances(b.Context(), []credential.Instance{many[0], many[1200]}))
	if fresh := b.instances(c, again); len(fresh) != 1 || fresh[0].Name != "i-0" {
		b.Errorf("of those that came again %+v are known", fresh)
	}
}

func instancesTogether(b *bench) {
	_, c := b.create(b.draft())
	at := b.now()
	for _, err := range together(6, func(node int) error {
		var seen []credential.Instance
		for i := range 50 {
			seen = append(seen, b.sighting(c, fmt.Sprintf("i-%02d", i), at.Add(time.Duration(node)*time.Second)))
		}
		return b.store.NoteInstances(b.Context(), seen)
	}) {
		b.must("noting", err)
	}
	all := b.instances(c, at)
	for _, one := range all {
		if !one.LastUsedAt.Equal(at.Add(5 * time.Second)) {
			b.Fatalf("an instance was used last at %v, want the latest, %v", one.LastUsedAt, at.Add(5*time.Second))
		}
	}
	if len(all) != 50 {
		b.Errorf("%d instances are known", len(all))
	}
}

func instancesForgotten(b *bench) {
	_, c := b.create(b.draft())
	now := time.Now().UTC().Truncate(time.Microsecond)
	old, young := b.sighting(c, "old", now.Add(-credential.InstancesKept-time.Hour)), b.sighting(c, "young", now.Add(-time.Hour))
	b.must("noting", b.store.NoteInstances(b.Context(), []credential.Instance{old, young}))
	b.must("maintaining", b.store.Maintain(b.Context(), now))
	wantSame(b, "what is left", b.instances(c, old.LastUsedAt), []credential.Instance{young})
}
