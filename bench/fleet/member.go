package fleet

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/organization"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
)

// RootSecret is the JWT_SECRET of the servers that are measured; it protects nothing.
const RootSecret = "measurements-only-Zk3vQ0x8Yw5nT1r7Lb2d"

// Scope is what members ask for.
const Scope = "files:read tickets:write"

// Member is one agent of a fleet, and how it authenticates.
type Member struct {
	ClientID     string
	Secret       string
	CredentialID string
	KeyID        string
	Organization string
	Email        string
	Type         string
	Owner        string
	Deployment   string
	CreatedAt    time.Time

	secret credential.Secret
}

// Nth gives the member of that number, always the same. Number 0 manages: it holds
// every management scope.
func Nth(n int) (Member, error) {
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], uint64(n)) //nolint:gosec // not negative
	random := rand.NewChaCha8(seed)
	s, err := credential.NewSecret(random)
	if err != nil {
		return Member{}, err
	}
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(n) * 7 * time.Millisecond)
	return Member{
		ClientID: id(at, random), Secret: s.Value().Reveal(), CredentialID: id(at, random), KeyID: s.KeyID(), Organization: organization.DefaultID().String(),
		Email: fmt.Sprintf("worker-%07d@fleet.example.com", n), Type: []string{"reader", "writer", "planner", "crawler"}[random.Uint64()%4],
		Owner: fmt.Sprintf("team-%02d", random.Uint64()%40), Deployment: []string{"production", "production", "staging", "development"}[random.Uint64()%4],
		CreatedAt: at, secret: s,
	}, nil
}

// id is a UUID of version 7 of a known random part.
func id(at time.Time, random *rand.ChaCha8) string {
	id := audit.NewID(at)
	_, _ = random.Read(id[6:]) // never fails
	id[6] = 0x70 | id[6]&0x0f
	id[8] = 0x80 | id[8]&0x3f
	return id.String()
}

// Some gives n members of a fleet of size, spread over it evenly, never number 0
// where there is another.
func Some(n, size int) ([]Member, error) {
	members := make([]Member, min(n, size))
	for i := range members {
		m, err := Nth(min(1+i*size/len(members), size-1))
		if err != nil {
			return nil, err
		}
		members[i] = m
	}
	return members, nil
}

// capabilities of the nth member.
func capabilities(n int) scope.Set {
	all := []string{"files:read", "tickets:write"}
	if n == 0 {
		all = append(all, scope.Management()...)
	}
	return scope.New(all...)
}
