package app_test

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"git.sentryagent.ai/sentryagent-idp/internal/app/apptest"
)

// TestAReceiverMaySayMuch: any answer of 2xx takes a batch, however long it is.
func TestAReceiverMaySayMuch(t *testing.T) {
	contract, err := apptest.LoadContract()
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	batches := map[string]bool{}
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		batches[r.Header.Get("Audit-First-Sequence")] = true
		mu.Unlock()
		_, _ = w.Write(make([]byte, 2<<20))
	}))
	t.Cleanup(receiver.Close)
	s := apptest.Start(t, contract, "AUDIT_STREAM_WEBHOOK="+receiver.URL, "AUDIT_STREAM_WEBHOOK_SECRET=9f2c4e61b7a80d35c1f6e2947ab30d58")
	arrived := func(n int) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(batches) >= n
		}
	}
	until(t, "the first batch arrives", arrived(1))
	s.Admin() // which is on record
	until(t, "the next batch arrives", arrived(2))
}
