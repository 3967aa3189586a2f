package credential_test

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
)

func TestARevokedCredentialStaysRevoked(t *testing.T) {
	w := newWorld(t)
	issued := w.mustCreate(credential.Request{})
	revokedAt := w.at
	for range 2 {
		if err := w.revoke(issued.ID); err != nil {
			t.Fatal(err)
		}
		w.advance(time.Hour)
	}
	if c, _ := w.store.Credential(t.Context(), w.org, w.agent, issued.ID); !c.RevokedAt.Equal(revokedAt) || w.status(issued.ID) != credential.Revoked {
		t.Errorf("the credential is %s since %v, want revoked since %v", w.status(issued.ID), c.RevokedAt, revokedAt)
	}
	if _, err := w.rotate(issued.ID, credential.Request{}); !fault.Is(err, fault.CodeCredential) {
		t.Errorf("rotating a revoked credential gave %v, want CREDENTIAL_ERROR", err)
	}
	w.wantEvents(audit.CredentialCreated, audit.CredentialRevoked)
}

func TestACredentialRevokedMeanwhileKeepsItsTime(t *testing.T) {
	w := newWorld(t)
	issued := w.mustCreate(credential.Request{})
	revokedAt := w.at
	w.store.meanwhile = func() {
		w.store.all[0].RevokedAt = revokedAt
		w.advance(time.Second)
	}
	if err := w.revoke(issued.ID); err != nil {
		t.Errorf("revoking what another has just revoked gave %v", err)
	}
	if got := w.store.all[0].RevokedAt; !got.Equal(revokedAt) {
		t.Errorf("the credential is revoked since %v, want %v", got, revokedAt)
	}
	w.wantEvents(audit.CredentialCreated)
}

func TestAnExpiredCredentialCanBeRevoked(t *testing.T) {
	w := newWorld(t)
	issued := w.mustCreate(credential.Request{ExpiresAt: w.at.Add(time.Hour)})
	w.advance(2 * time.Hour)
	if err := w.revoke(issued.ID); err != nil || w.status(issued.ID) != credential.Revoked {
		t.Errorf("%v, the credential is %s", err, w.status(issued.ID))
	}
}

func TestAnEndedAgentGetsNoCredentialsAndMayLoseThem(t *testing.T) {
	w := newWorld(t)
	issued := w.mustCreate(credential.Request{})
	w.store.holder.Ended, w.store.holder.Status = true, "revoked"
	if _, err := w.create(credential.Request{}); !fault.Is(err, fault.CodeCredential) {
		t.Errorf("Create gave %v, want CREDENTIAL_ERROR", err)
	}
	if _, err := w.rotate(issued.ID, credential.Request{}); !fault.Is(err, fault.CodeCredential) {
		t.Errorf("Rotate gave %v, want CREDENTIAL_ERROR", err)
	}
	if err := w.revoke(issued.ID); err != nil {
		t.Errorf("Revoke gave %v", err)
	}
	w.wantEvents(audit.CredentialCreated, audit.CredentialRevoked)
}

func TestNobodyGetsTheCredentialsOfAStrongerAgent(t *testing.T) { // (R36)
	for _, c := range []struct {
		name    string
		agent   scope.Set
		caller  scope.Set
		lacking string // the first scope, empty where the caller may
	}{
		{"ordinary capabilities", scope.New("mail:send", "mail:read"), scope.New(scope.CredentialsWrite), ""},
		{"as strong as the caller", scope.New(scope.CredentialsWrite), scope.New(scope.CredentialsWrite), ""},
		{"weaker than the caller", scope.New(scope.AuditRead), scope.New(scope.AuditRead, scope.CredentialsWrite), ""},
		{"stronger", scope.New("mail:send", scope.AuditRead), scope.New(scope.CredentialsWrite), scope.AuditRead},
		{"an operator", scope.Management(), scope.New(scope.CredentialsWrite, scope.AgentsRead), scope.AgentsWrite},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			issued := w.mustCreate(credential.Request{})
			w.store.holder.Capabilities, w.by.Scopes = c.agent, c.caller
			_, creating := w.create(credential.Request{})
			_, rotating := w.rotate(issued.ID, credential.Request{Overlap: time.Hour})
			for does, err := range map[string]error{"Create": creating, "Rotate": rotating} {
				switch {
				case c.lacking == "" && err != nil:
					t.Errorf("%s: %v", does, err)
				case c.lacking == "":
				case !fault.Is(err, fault.CodeInsufficientScope):
					t.Errorf("%s gave %v, want INSUFFICIENT_SCOPE", does, err)
				case fault.As(err).Scope != c.lacking:
					t.Errorf("%s names the scope %q, want %q", does, fault.As(err).Scope, c.lacking)
				}
			}
			if c.lacking != "" && len(w.store.all) != 1 {
				t.Error("a refused request left a credential behind")
			}
			if err := w.revoke(issued.ID); err != nil {
				t.Errorf("revoking gives nobody power, but: %v", err)
			}
		})
	}
}

func TestWhatIsRefusedOpensNoTransaction(t *testing.T) {
	w := newWorld(t)
	issued := w.mustCreate(credential.Request{})
	begun := w.store.changes
	w.store.holder.Ended, w.store.holder.Status, w.store.holder.Capabilities = true, "revoked", scope.New(scope.AuditRead)
	for does, ask := range map[string]func() error{
		"Create": func() error { _, err := w.create(credential.Request{}); return err },
		"Rotate": func() error { _, err := w.rotate(issued.ID, credential.Request{}); return err },
		// What may not be done is told before what is not there.
		"Rotate of an unknown credential": func() error { _, err := w.rotate(uuid.New(), credential.Request{}); return err },
	} {
		if err := ask(); !fault.Is(err, fault.CodeInsufficientScope) {
			t.Errorf("%s: %v, want INSUFFICIENT_SCOPE", does, err)
		}
	}
	w.store.holder.Capabilities = nil
	if _, err := w.create(credential.Request{}); !fault.Is(err, fault.CodeCredential) {
		t.Errorf("for an agent that has ended: %v", err)
	}
	if w.store.changes != begun {
		t.Errorf("%d transactions were begun for what was refused", w.store.changes-begun)
	}
}

func TestWhatIsNotThereIsNotFound(t *testing.T) {
	w := newWorld(t)
	issued := w.mustCreate(credential.Request{})
	if _, err := w.rotate(uuid.New(), credential.Request{}); !fault.Is(err, fault.CodeCredentialNotFound) {
		t.Errorf("rotating an unknown credential: %v", err)
	}
	if err := w.revoke(uuid.New()); !fault.Is(err, fault.CodeCredentialNotFound) {
		t.Errorf("revoking an unknown credential: %v", err)
	}
	for name, other := range map[string]struct{ org, agent uuid.UUID }{
		"another organization": {uuid.New(), w.agent},
		"another agent":        {w.org, uuid.New()},
	} {
		t.Run(name, func(t *testing.T) {
			_, creating := w.service.Create(t.Context(), w.by, other.org, other.agent, credential.Request{})
			_, rotating := w.service.Rotate(t.Context(), w.by, other.org, other.agent, issued.ID, credential.Request{})
			revoking := w.service.Revoke(t.Context(), w.by, other.org, other.agent, issued.ID)
			_, listing := w.service.List(t.Context(), other.org, other.agent, page.Query{Limit: 1})
			for does, err := range map[string]error{"Create": creating, "Rotate": rotating, "Revoke": revoking, "List": listing} {
				if !fault.Is(err, fault.CodeAgentNotFound) {
					t.Errorf("%s gave %v, want AGENT_NOT_FOUND", does, err)
				}
			}
		})
	}
	if w.status(issued.ID) != credential.Active {
		t.Error("the credential was touched")
	}
}
