package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/app/apptest"
)

// tokenAs gets a token as an instance of the agent.
func (w *world) tokenAs(id, secret, instance string) int {
	w.t.Helper()
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {id}, "client_secret": {secret}}
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.URL+"/oauth2/token", strings.NewReader(form.Encode()))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if instance != "" {
		r.Header.Set("Agent-Instance", instance)
	}
	return w.Do(r).Status
}

type uses struct {
	Instances, StillUsing int
	Items                 []struct {
		Instance, Kind string
		MovedTo        *string
	}
}

func (w *world) uses(credentialID string) (u uses) {
	w.t.Helper()
	if err := w.App.NoteUses(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	got := w.Call(http.MethodGet, "/agents/"+w.target.ID+"/credentials/"+credentialID+"/uses", w.admin, "")
	if err := json.Unmarshal(got.Body, &u); err != nil || got.Status != http.StatusOK {
		w.t.Fatalf("asking for uses: %d %s", got.Status, got.Body)
	}
	return u
}

func TestTheOperatorSeesWhoStillUsesTheOldSecret(t *testing.T) {
	w := newWorld(t)
	for i := range 40 {
		if got := w.tokenAs(w.target.ID, w.target.Secret, fmt.Sprintf("reader-%d", i)); got != http.StatusOK {
			t.Fatal(got)
		}
	}
	if u := w.uses(w.target.CredentialID); u.Instances != 40 || u.StillUsing != 40 {
		t.Errorf("before the rotation %d of %d use it", u.StillUsing, u.Instances)
	}
	made := w.Call(http.MethodPost, "/agents/"+w.target.ID+"/credentials/"+w.target.CredentialID+"/rotate", w.admin, "").JSON(t)
	next, nextID := made["clientSecret"].(string), made["id"].(string)
	w.Clock.Add(time.Minute)
	for i := range 37 {
		w.tokenAs(w.target.ID, next, fmt.Sprintf("reader-%d", i))
	}
	u := w.uses(w.target.CredentialID)
	if u.Instances != 40 || u.StillUsing != 3 {
		t.Errorf("%d of %d still use the old one, want 3 of 40", u.StillUsing, u.Instances)
	}
	moved := 0
	for _, one := range u.Items {
		if one.MovedTo != nil && *one.MovedTo == nextID {
			moved++
		}
	}
	if len(u.Items) != 40 || moved != 37 {
		t.Errorf("%d of %d have moved", moved, len(u.Items))
	}
	if u := w.uses(nextID); u.StillUsing != 37 || u.Instances != 40 {
		t.Errorf("%d of %d use the new one", u.StillUsing, u.Instances)
	}
	// Who says no name, or none that can be one, is known by the address.
	for _, name := range []string{"", "two words", strings.Repeat("x", 65), "é"} {
		if got := w.tokenAs(w.target.ID, next, name); got != http.StatusOK {
			t.Errorf("the instance %q: %d", name, got)
		}
	}
	u = w.uses(nextID)
	if u.StillUsing != 38 || u.Items[0].Kind != "address" && u.Items[37].Kind != "address" {
		t.Errorf("with one by its address: %+v", u)
	}
}

func TestABrownoutEndsByItself(t *testing.T) {
	w := newWorld(t)
	held := w.Token(w.target.ID, w.target.Secret, "")
	path := "/agents/" + w.target.ID + "/credentials/" + w.target.CredentialID
	if got := w.Call(http.MethodPost, path+"/brownout", w.admin, ""); got.Status != http.StatusOK {
		t.Fatalf("%d %s", got.Status, got.Body)
	}
	if got := w.status(w.target.ID, w.target.Secret); got != http.StatusUnauthorized {
		t.Errorf("within the minute: %d", got)
	}
	if answer := w.Form("/oauth2/introspect", w.AdminID, w.AdminSecret, url.Values{"token": {held}}); !strings.Contains(string(answer.Body), `"active":true`) {
		t.Errorf("a token got before: %s", answer.Body)
	}
	w.Clock.Add(61 * time.Second)
	if got := w.status(w.target.ID, w.target.Secret); got != http.StatusOK {
		t.Errorf("after the minute: %d", got)
	}
}

func TestACredentialRetiresOnceNobodyUsesIt(t *testing.T) {
	s := apptest.Start(t, contract)
	admin := s.Admin()
	a := s.Register(admin, "retiree", "", "jobs:run")
	path := "/agents/" + a.ID + "/credentials/" + a.CredentialID
	if got := s.Call(http.MethodPost, path+"/retire", admin, `{"unusedForSeconds":3600}`); got.Status != http.StatusOK {
		t.Fatalf("%d %s", got.Status, got.Body)
	}
	status := func() any {
		if err := s.App.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
		list := s.Call(http.MethodGet, "/agents/"+a.ID+"/credentials", s.Admin(), "").JSON(t)
		return list["items"].([]any)[0].(map[string]any)["status"]
	}
	s.Clock.Add(50 * time.Minute)
	s.Token(a.ID, a.Secret, "")
	s.Clock.Add(50 * time.Minute)
	if got := status(); got != "active" {
		t.Errorf("fifty minutes after a use it is %v", got)
	}
	s.Clock.Add(11 * time.Minute)
	if got := status(); got != "revoked" {
		t.Errorf("after an hour without a use it is %v", got)
	}
}
