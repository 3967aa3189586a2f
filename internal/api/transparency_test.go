package api_test

import (
	"net/http"
	"strings"
	"testing"
)

// TestATileThatCannotBeIsTheCallersFault: an index that is out of bounds wraps around to
// no other tile, and the bodies have one address alone.
func TestATileThatCannotBeIsTheCallersFault(t *testing.T) {
	w := newWorld(t)
	for path, field := range map[string]string{
		"/audit/tile/data/000.p/1":                             "level",
		"/audit/tile/0/x072/x057/x594/x037/x927/936.p/1":       "index", // 2^56
		"/audit/tile/0/x009/x223/x372/x036/x854/x775/807":      "index", // 2^63-1
		"/audit/tile/entries/x072/x057/x594/x037/x927/936.p/1": "index",
	} {
		got := w.Call(http.MethodGet, path, w.admin, "")
		if got.Status != http.StatusBadRequest || !strings.Contains(string(got.Body), `"field":"`+field+`"`) {
			t.Errorf("%s: %d %s", path, got.Status, got.Body)
		}
	}
	for _, path := range []string{"/audit/tile/0/x999/x999/x999/x999/999.p/255", "/audit/tile/entries/x999/x999/x999/x999/999.p/255", "/audit/tile/7/x999/x999/x999/x999/999"} {
		if got := w.Call(http.MethodGet, path, w.admin, ""); got.Status != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, got.Status, got.Body)
		}
	}
}

// TestTheHeadOfAnExportIsThatOfTheExport, records nothing, and tells no length, as nobody
// knows it (RFC 9110 §8.6).
func TestTheHeadOfAnExportIsThatOfTheExport(t *testing.T) {
	w := newWorld(t)
	const path = "/audit/export?format=csv"
	r, err := http.NewRequestWithContext(t.Context(), http.MethodHead, w.URL+path, nil) // which no contract names
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+w.admin)
	head, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = head.Body.Close()
	got := w.Call(http.MethodGet, path, w.admin, "")
	if head.StatusCode != http.StatusOK || head.Header.Get("Content-Type") != got.Header.Get("Content-Type") || head.Header.Get("Content-Length") != "" {
		t.Errorf("the head is %d %v", head.StatusCode, head.Header)
	}
	if n := strings.Count(string(got.Body), ",audit.exported,"); n != 1 {
		t.Errorf("%d exports are on record, want 1", n)
	}
}

// TestTheFirstMomentOfAllIsAMoment, and no bound that was left out.
func TestTheFirstMomentOfAllIsAMoment(t *testing.T) {
	w := newWorld(t)
	for path, want := range map[string]int{"/audit/export?to=0001-01-01T00:00:00Z": 0, "/audit/events?to=0001-01-01T00:00:00Z": 0, "/audit/events?from=0001-01-01T00:00:00Z&action=agent.created": 2} {
		got := w.Call(http.MethodGet, path, w.admin, "")
		if n := strings.Count(string(got.Body), `"actor"`); got.Status != http.StatusOK || n != want {
			t.Errorf("%s: %d with %d events, want %d", path, got.Status, n, want)
		}
	}
}
