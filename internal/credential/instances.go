package credential

import (
	"bytes"
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Bounds on what is known of instances.
const (
	// MaxInstances is how many are kept of one credential.
	MaxInstances = 1000
	// MaxInstanceName is in characters.
	MaxInstanceName = 64
	// InstancesKept is how long one is remembered that is not seen again.
	InstancesKept = 30 * 24 * time.Hour

	// What waits to be written, by credential and in all; what is more is not noted this
	// time.
	maxNewInstances = 256
	instanceShards  = 16
	maxPerShard     = 4096
)

// Instance is one of the places where an agent runs, as it uses a credential.
type Instance struct {
	CredentialID uuid.UUID
	// Name is what it calls itself, or the address it comes from where Named is false.
	Name  string
	Named bool
	// FirstUsedAt and LastUsedAt say when it was seen using the credential.
	FirstUsedAt, LastUsedAt time.Time
}

// InstanceStore keeps instances.
type InstanceStore interface {
	// NoteInstances notes when instances used credentials last; it never goes back, and
	// keeps no more than MaxInstances of one credential. It may be called twice.
	NoteInstances(ctx context.Context, seen []Instance) error
	// AgentInstances gives the instances of all credentials of the agent that were seen
	// at since or later, newest first. AGENT_NOT_FOUND where there is no such agent.
	AgentInstances(ctx context.Context, organization, agentID uuid.UUID, since time.Time) ([]Instance, error)
}

// Instances notes which instances use which credentials. What it notes is written by
// Flush; a crash loses what was not, which costs no more than that an instance looks a
// moment older than it is. It is safe for concurrent use.
type Instances struct {
	store    InstanceStore
	shards   [instanceShards]instanceShard
	flushing sync.Mutex
}

// instanceKey is an instance that uses a credential: by its name, or by its address.
type instanceKey struct {
	credential uuid.UUID
	name       string
	address    netip.Addr
}

type instanceShard struct {
	mu   sync.Mutex
	seen map[instanceKey]int64 // microseconds since 1970
	// new counts the instances of each credential in seen.
	new map[uuid.UUID]int
	// spare are the maps of the last time, emptied, so that they need not grow again.
	spareSeen map[instanceKey]int64
	spareNew  map[uuid.UUID]int
}

// NewInstances makes one.
func NewInstances(store InstanceStore) *Instances {
	i := &Instances{store: store}
	for n := range i.shards {
		s := &i.shards[n]
		s.seen, s.new = map[instanceKey]int64{}, map[uuid.UUID]int{}
		s.spareSeen, s.spareNew = map[instanceKey]int64{}, map[uuid.UUID]int{}
	}
	return i
}

// Note notes that an instance used a credential at the time. Where it has no valid name
// it is known by its address; by its /64, where that is of IPv6.
func (i *Instances) Note(credential uuid.UUID, name string, address netip.Addr, at time.Time) {
	key := instanceKey{credential: credential}
	if validInstance(name) {
		key.name = name
	} else {
		key.address = whole(address)
	}
	s := &i.shards[credential[15]%instanceShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.seen[key]; !known {
		if len(s.seen) >= maxPerShard || s.new[credential] >= maxNewInstances {
			return
		}
		s.new[credential]++
		key.name = strings.Clone(key.name) // the request's headers need not live as long
	}
	s.seen[key] = at.UnixMicro()
}

func validInstance(name string) bool {
	if name == "" || len(name) > MaxInstanceName {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '.' && c != '_' && c != ':' && c != '/' {
			return false
		}
	}
	return true
}

// whole is an address as one instance has it for long.
func whole(address netip.Addr) netip.Addr {
	address = address.Unmap().WithZone("")
	if address.Is6() {
		if p, err := address.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return address
}

// Flush writes what was noted. It fails with UNAVAILABLE, and what could not be written is
// forgotten: the instances come again.
func (i *Instances) Flush(ctx context.Context) error {
	i.flushing.Lock()
	defer i.flushing.Unlock()
	var all []Instance
	for n := range i.shards {
		s := &i.shards[n]
		s.mu.Lock()
		seen, counts := s.seen, s.new
		s.seen, s.new = s.spareSeen, s.spareNew
		s.mu.Unlock()
		for key, at := range seen {
			one := Instance{CredentialID: key.credential, Name: key.name, Named: key.name != ""}
			if !one.Named {
				one.Name = key.address.String()
			}
			one.LastUsedAt = time.UnixMicro(at).UTC()
			one.FirstUsedAt = one.LastUsedAt
			all = append(all, one)
		}
		clear(seen)
		clear(counts)
		s.mu.Lock()
		s.spareSeen, s.spareNew = seen, counts
		s.mu.Unlock()
	}
	if len(all) == 0 {
		return nil
	}
	// One order, so that two who note the same rows do not wait for each other crosswise.
	slices.SortFunc(all, func(a, b Instance) int {
		if c := bytes.Compare(a.CredentialID[:], b.CredentialID[:]); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	return i.store.NoteInstances(ctx, all)
}

// Uses tells who uses a credential.
type Uses struct {
	// Since is from when on instances were looked for.
	Since time.Time
	// Instances is how many the agent has, whatever they use; StillUsing is how many of
	// them used this credential last.
	Instances, StillUsing int
	// Of are the instances that have used this credential, newest first.
	Of []InstanceUse
}

// InstanceUse is an instance that has used a credential.
type InstanceUse struct {
	Instance
	// MovedTo is the credential that it has used since, uuid.Nil where it has not.
	MovedTo uuid.UUID
}

// usesOf makes of an agent's instances, newest first, who uses a credential.
func usesOf(all []Instance, id uuid.UUID, since time.Time) Uses {
	type who struct {
		name  string
		named bool
	}
	u, newest := Uses{Since: since}, map[who]uuid.UUID{}
	for _, one := range all {
		w := who{one.Name, one.Named}
		last, seen := newest[w]
		if !seen {
			newest[w], last = one.CredentialID, one.CredentialID
			u.Instances++
		}
		if one.CredentialID != id {
			continue
		}
		use := InstanceUse{Instance: one}
		if last == id {
			u.StillUsing++
		} else {
			use.MovedTo = last
		}
		u.Of = append(u.Of, use)
	}
	return u
}
