//go:build unix

package credential_test

import (
	"runtime"
	"syscall"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/secret"
)

// cpu gives the least processor time of several runs, as a garbage collection
// may fall into one of them.
func cpu(t *testing.T, run func()) time.Duration {
	t.Helper()
	least := time.Duration(1<<63 - 1)
	for range 5 {
		runtime.GC()
		before := usage(t)
		run()
		least = min(least, usage(t)-before)
	}
	return least
}

func usage(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func TestWrongSecretsCostNoMoreProcessorTimeThanRightOnes(t *testing.T) { // (R37)
	const attempts = 10_000
	h := newHasher(t, credential.Bcrypt, newClock(), newRoot, secret.Value{})
	right, wrong := mustSecret(t), mustSecret(t)
	v := mustHash(t, h, right)
	run := func(s credential.Secret, want bool) func() {
		return func() {
			for range attempts {
				if ok, _, err := h.Verify(t.Context(), s, v, "client"); ok != want || err != nil {
					t.Fatalf("verified %v, %v, want %v", ok, err, want)
				}
			}
		}
	}
	forRight, forWrong := cpu(t, run(right, true)), cpu(t, run(wrong, false))
	if forWrong > 2*forRight {
		t.Errorf("%d wrong secrets took %v of processor time, right ones %v", attempts, forWrong, forRight)
	}
}
