package app_test

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"git.sentryagent.ai/sentryagent-idp/internal/app/apptest"
)

// cacheLine is how the log tells of the caches.
type cacheLine struct {
	Msg                 string
	Directory, Verifier struct{ Hits, Misses int }
}

// What is remembered serves nearly every request of agents that come again (R7).
func TestTheCachesServeAgentsThatComeAgain(t *testing.T) {
	const agents, tokens, callers = 100, 50, 50
	contract, err := apptest.LoadContract()
	if err != nil {
		t.Fatal(err)
	}
	s := apptest.Start(t, contract)
	admin := s.Admin()
	var all []apptest.Agent
	for i := range agents {
		all = append(all, s.Register(admin, "agent-"+strconv.Itoa(i), "", "data:read"))
	}
	var asking sync.WaitGroup
	for part := range callers {
		asking.Go(func() {
			for range tokens {
				for i := part; i < agents; i += callers {
					if status := ask(s, all[i].ID, all[i].Secret); status != http.StatusOK {
						t.Errorf("asking for a token was answered %d", status)
						return
					}
				}
			}
		})
	}
	asking.Wait()
	s.Stop()
	var sum cacheLine
	for line := range strings.Lines(s.Logs.String()) {
		var one cacheLine
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Fatal(err)
		}
		if one.Msg == "caches" {
			sum.Directory.Hits += one.Directory.Hits
			sum.Directory.Misses += one.Directory.Misses
			sum.Verifier.Hits += one.Verifier.Hits
			sum.Verifier.Misses += one.Verifier.Misses
		}
	}
	if n := sum.Directory.Hits + sum.Directory.Misses; n < agents*tokens || sum.Directory.Hits*10 <= 9*n {
		t.Errorf("the directory had %d of %d, want more than 90 %%", sum.Directory.Hits, n)
	}
	// The admin's one token registered all of them.
	if sum.Verifier.Misses != 1 || sum.Verifier.Hits != agents-1 {
		t.Errorf("the verifier had %d, and not %d", sum.Verifier.Hits, sum.Verifier.Misses)
	}
}
