package credential_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/credential"
)

// places is an InstanceStore that keeps all it is given.
type places struct {
	mu   sync.Mutex
	seen []credential.Instance
	err  error
}

func (p *places) NoteInstances(_ context.Context, seen []credential.Instance) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = append(p.seen, seen...)
	return p.err
}

func (p *places) AgentInstances(context.Context, uuid.UUID, uuid.UUID, time.Time) ([]credential.Instance, error) {
	return p.seen, p.err
}

func TestAnInstanceIsKnownByItsNameOrItsAddress(t *testing.T) {
	var p places
	i, at := credential.NewInstances(&p), newClock().at
	id := uuid.New()
	for _, c := range []struct{ name, address, want string }{
		{"pod-7.eu:8080/a_B", "192.0.2.1", "pod-7.eu:8080/a_B"},
		{strings.Repeat("x", 64), "192.0.2.1", strings.Repeat("x", 64)},
		{strings.Repeat("x", 65), "192.0.2.1", "192.0.2.1"},
		{"", "192.0.2.2", "192.0.2.2"},
		{"two words", "192.0.2.3", "192.0.2.3"},
		{"a\x00", "192.0.2.4", "192.0.2.4"},
		{"", "::ffff:192.0.2.5", "192.0.2.5"},
		{"", "2001:db8::1234:5678:9abc:def0", "2001:db8::"},
		{"", "fe80::1%eth0", "fe80::"},
	} {
		p.seen = nil
		i.Note(id, c.name, netip.MustParseAddr(c.address), at)
		i.Note(id, c.name, netip.MustParseAddr(c.address), at.Add(time.Second))
		if err := i.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := []credential.Instance{{CredentialID: id, Name: c.want, Named: c.want == c.name, FirstUsedAt: at.Add(time.Second), LastUsedAt: at.Add(time.Second)}}
		if !slices.Equal(p.seen, want) {
			t.Errorf("%q at %s is %+v, want %+v", c.name, c.address, p.seen, want)
		}
	}
	p.seen = nil
	if err := i.Flush(t.Context()); err != nil || p.seen != nil {
		t.Errorf("nothing was noted, and this written: %+v, %v", p.seen, err)
	}
	p.err = errors.New("the disk is away")
	i.Note(id, "one", netip.Addr{}, at)
	if err := i.Flush(t.Context()); !errors.Is(err, p.err) {
		t.Errorf("a failure of the store: %v", err)
	}
}

func TestInstancesAreBoundedInMemory(t *testing.T) {
	var p places
	i, at := credential.NewInstances(&p), newClock().at
	id := uuid.New()
	for n := range 1000 {
		i.Note(id, fmt.Sprintf("i-%d", n), netip.Addr{}, at)
	}
	if err := i.Flush(t.Context()); err != nil || len(p.seen) != 256 {
		t.Errorf("of one credential %d instances wait, %v; want 256", len(p.seen), err)
	}
	p.seen = nil
	for range 200_000 {
		i.Note(uuid.New(), "one", netip.Addr{}, at)
	}
	if err := i.Flush(t.Context()); err != nil || len(p.seen) > 16*4096 || len(p.seen) < 60_000 {
		t.Errorf("of many credentials %d instances wait, %v; want 65536", len(p.seen), err)
	}
	if !slices.IsSortedFunc(p.seen, func(a, b credential.Instance) int {
		return bytes.Compare(a.CredentialID[:], b.CredentialID[:])
	}) {
		t.Error("they are not written in one order")
	}
}

// Nothing is lost, or written twice, between those who note and who writes.
func TestInstancesAreNotedWhileTheyAreWritten(t *testing.T) {
	var p places
	i, at := credential.NewInstances(&p), newClock().at
	var noting sync.WaitGroup
	ids := make([]uuid.UUID, 8)
	for n := range ids {
		ids[n] = uuid.New()
		noting.Go(func() {
			for k := range 200 {
				i.Note(ids[n], fmt.Sprintf("i-%d", k), netip.Addr{}, at)
			}
		})
	}
	done := make(chan struct{})
	go func() { noting.Wait(); close(done) }()
	for writing := true; writing; {
		select {
		case <-done:
			writing = false
		default:
		}
		for _, err := range []error{i.Flush(t.Context()), i.Flush(t.Context())} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	known := map[string]bool{}
	for _, one := range p.seen {
		known[one.CredentialID.String()+one.Name] = true
	}
	if len(known) != 8*200 {
		t.Errorf("%d instances are known, want 1600", len(known))
	}
}

func BenchmarkNote(b *testing.B) {
	i, at := credential.NewInstances(&places{}), time.Now()
	ids := make([]uuid.UUID, 64)
	for n := range ids {
		ids[n] = uuid.New()
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for n := 0; pb.Next(); n++ {
			i.Note(ids[n%len(ids)], "reader-1", netip.Addr{}, at)
		}
	})
}
