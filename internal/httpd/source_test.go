package httpd_test

import (
	"context"
	"net/http"
	"strconv"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/httpd"
	"git.sentryagent.ai/sentryagent-idp/internal/limit"
	"git.sentryagent.ai/sentryagent-idp/internal/request"
)

// X-Forwarded-For is believed of trusted proxies alone, and only as far back as
// the chain of them goes (R38).
func TestTheSourceIsTheLastAddressThatIsNoTrustedProxy(t *testing.T) {
	for name, c := range map[string]struct {
		peer string
		xff  []string
		want string
	}{
		"no proxy":                            {"203.0.113.1:5", nil, "203.0.113.1"},
		"an untrusted peer's claim":           {"203.0.113.1:5", []string{"198.51.100.7"}, "203.0.113.1"},
		"an untrusted peer names a proxy":     {"203.0.113.1:5", []string{"198.51.100.7, 10.0.0.1"}, "203.0.113.1"},
		"one proxy":                           {"10.0.0.1:5", []string{"203.0.113.9"}, "203.0.113.9"},
		"a claim before the last hop":         {"10.0.0.1:5", []string{"198.51.100.7, 203.0.113.9"}, "203.0.113.9"},
		"two proxies":                         {"10.0.0.1:5", []string{"198.51.100.7, 203.0.113.9, 10.0.0.2"}, "203.0.113.9"},
		"two header lines":                    {"10.0.0.1:5", []string{"198.51.100.7", "203.0.113.9, 10.0.0.2"}, "203.0.113.9"},
		"nothing but proxies":                 {"10.0.0.1:5", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		"a proxy that says nothing":           {"10.0.0.1:5", nil, "10.0.0.1"},
		"garbage before the last hop":         {"10.0.0.1:5", []string{"<script>, 203.0.113.9"}, "203.0.113.9"},
		"garbage as the last hop":             {"10.0.0.1:5", []string{"203.0.113.9, unknown"}, "10.0.0.1"},
		"garbage behind a second proxy":       {"10.0.0.1:5", []string{"\x00\xff;, 10.0.0.2"}, "10.0.0.2"},
		"only commas":                         {"10.0.0.1:5", []string{",,,"}, "10.0.0.1"},
		"an empty header":                     {"10.0.0.1:5", []string{""}, "10.0.0.1"},
		"a number too large":                  {"10.0.0.1:5", []string{"999.1.1.1"}, "10.0.0.1"},
		"IPv6":                                {"[fd00::1]:5", []string{"2001:db8::7"}, "2001:db8::7"},
		"IPv4 in IPv6 as the peer":            {"[::ffff:10.0.0.1]:5", []string{"203.0.113.9"}, "203.0.113.9"},
		"IPv4 in IPv6 as a hop":               {"10.0.0.1:5", []string{"::ffff:203.0.113.9"}, "203.0.113.9"},
		"a proxy written as IPv4 in IPv6":     {"10.0.0.1:5", []string{"203.0.113.9, ::ffff:10.0.0.2"}, "203.0.113.9"},
		"a zone, which must not name buckets": {"10.0.0.1:5", []string{"fe80::1%evil"}, "fe80::1"},
		"a port, as some proxies write it":    {"10.0.0.1:5", []string{"203.0.113.9:4711, 10.0.0.2:443"}, "203.0.113.9"},
		"a port of IPv6":                      {"10.0.0.1:5", []string{"[2001:db8::7]:4711"}, "2001:db8::7"},
		"a port that is none":                 {"10.0.0.1:5", []string{"203.0.113.9:70000"}, "10.0.0.1"},
		"no address at all":                   {"@", []string{"203.0.113.9"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var log buffer
			cfg := config(&log)
			cfg.TrustedProxies = proxies("10.0.0.0/8", "fd00::/8")
			w := ask(httpd.Chain(cfg, endpoints()), "GET", "/agents", from(c.peer), header("X-Forwarded-For", c.xff...))
			if got := log.only(t)["source"]; got != c.want || w.Code != http.StatusOK {
				t.Errorf("source %q, status %d, want %q and 200", got, w.Code, c.want)
			}
		})
	}
}

// limited is the endpoints behind a limit of three requests a minute on a clock
// that stands still.
func limited(trusted ...string) http.Handler {
	cfg := config(&buffer{})
	cfg.TrustedProxies = proxies(trusted...)
	stopped := time.Unix(1_700_000_000, 0)
	cfg.Sources = limit.New(3, 1000, func() time.Time { return stopped })
	return httpd.Chain(cfg, endpoints())
}

func TestAnAddressOverItsLimitIsToldWhenToComeBack(t *testing.T) {
	h := limited()
	for i := range 3 {
		w := ask(h, "GET", "/agents")
		want := `"source";r=` + strconv.Itoa(2-i) + `;t=` + strconv.Itoa(20*(i+1))
		if w.Code != http.StatusOK || w.Header().Get("RateLimit") != want || w.Header().Get("Retry-After") != "" {
			t.Errorf("request %d: %d %v, want 200 and RateLimit %s", i, w.Code, w.Header(), want)
		}
	}
	w := ask(h, "GET", "/agents")
	wantError(t, w, http.StatusTooManyRequests, "RATE_LIMITED")
	for name, want := range map[string]string{
		"Retry-After": "20", "RateLimit": `"source";r=0;t=60`, "RateLimit-Policy": `"source";q=3;w=60`, "X-Frame-Options": "DENY",
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	if w := ask(h, "GET", "/agents", from("198.51.100.1:1")); w.Code != http.StatusOK {
		t.Errorf("another address: %d, want 200", w.Code)
	}
}

// fixed is a limiter that always says the same.
type fixed request.Budget

func (f fixed) Take(context.Context, string, int64) request.Budget { return request.Budget(f) }

func TestTimesToWaitAreRoundedUpSoThatNobodyComesBackTooEarly(t *testing.T) {
	cfg := config(&buffer{})
	cfg.Sources = fixed{Limit: 7, RetryAfter: 1100 * time.Millisecond, Reset: 2*time.Second + 1}
	w := ask(httpd.Chain(cfg, endpoints()), "GET", "/agents")
	wantError(t, w, http.StatusTooManyRequests, "RATE_LIMITED")
	if got := w.Header(); got.Get("Retry-After") != "2" || got.Get("RateLimit") != `"source";r=0;t=3` {
		t.Errorf("headers %v, want to retry after 2 and a reset in 3 seconds", got)
	}
}

func TestRefusedAndUnknownPathsCountToo(t *testing.T) {
	h := limited()
	for _, target := range []string{"/nothing", "//", "/panic"} {
		ask(h, "GET", target)
	}
	if w := ask(h, "GET", "/agents"); w.Code != http.StatusTooManyRequests {
		t.Errorf("after three failed requests: %d, want 429", w.Code)
	}
}

func TestHealthIsNeverLimited(t *testing.T) {
	h := limited()
	paths := []string{"/health", "/health/live", "/health/ready"}
	for range 10 {
		for _, p := range paths {
			if w := ask(h, "GET", p); w.Code != http.StatusOK || w.Header().Get("RateLimit") != "" {
				t.Fatalf("%s: %d %v, want 200 without a limit", p, w.Code, w.Header())
			}
		}
	}
	if w := ask(h, "GET", "/agents"); w.Header().Get("RateLimit") != `"source";r=2;t=20` {
		t.Errorf("health checks took from the bucket: %v", w.Header())
	}
	for _, p := range []string{"/healthfoo", "/health/", "/health/other", "/health/live/x", "/%68ealthy"} {
		if w := ask(limited(), "GET", p); w.Header().Get("RateLimit") == "" {
			t.Errorf("%s is no health check, but it is not limited", p)
		}
	}
}

func TestWhereLimitsAreOffNoHeaderPromisesOne(t *testing.T) {
	w := ask(httpd.Chain(config(&buffer{}), endpoints()), "GET", "/agents")
	if w.Header().Get("RateLimit") != "" || w.Header().Get("RateLimit-Policy") != "" {
		t.Errorf("limits are off, but the answer has %v", w.Header())
	}
}

func TestAddressesThatAreOneClientShareABucket(t *testing.T) {
	for name, c := range map[string]struct {
		others []string
		fourth string
		status int
	}{
		"the ports of an address":    {[]string{"192.0.2.7:1", "192.0.2.7:2", "192.0.2.7:3"}, "192.0.2.7:4", 429},
		"one /64 of IPv6":            {[]string{"[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8::ffff:1:2:3]:1"}, "[2001:db8::4]:1", 429},
		"IPv4, also seen as IPv6":    {[]string{"192.0.2.7:1", "[::ffff:192.0.2.7]:1", "192.0.2.7:1"}, "[::ffff:192.0.2.7]:2", 429},
		"another /64":                {[]string{"[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8::3]:1"}, "[2001:db8:0:1::1]:1", 200},
		"another IPv4 address":       {[]string{"192.0.2.7:1", "192.0.2.7:2", "192.0.2.7:3"}, "192.0.2.8:1", 200},
		"IPv4 in IPv6 is no one /64": {[]string{"[::ffff:192.0.2.7]:1", "[::ffff:192.0.2.7]:1", "[::ffff:192.0.2.7]:1"}, "[::ffff:192.0.2.8]:1", 200},
	} {
		t.Run(name, func(t *testing.T) {
			h := limited()
			for _, addr := range c.others {
				if w := ask(h, "GET", "/agents", from(addr)); w.Code != http.StatusOK {
					t.Fatalf("%s: %d, want 200", addr, w.Code)
				}
			}
			if w := ask(h, "GET", "/agents", from(c.fourth)); w.Code != c.status {
				t.Errorf("%s after %v: %d, want %d", c.fourth, c.others, w.Code, c.status)
			}
		})
	}
}

func TestASpoofedForwardedForGetsNoFreshBucket(t *testing.T) {
	t.Run("of an untrusted peer", func(t *testing.T) {
		h, refused := limited("10.0.0.0/8"), 0
		for i := range 10 {
			w := ask(h, "GET", "/agents", header("X-Forwarded-For", "198.51.100."+strconv.Itoa(i)))
			if w.Code == http.StatusTooManyRequests {
				refused++
			}
		}
		if refused != 7 {
			t.Errorf("%d of 10 were refused, want 7", refused)
		}
	})
	t.Run("through a trusted proxy", func(t *testing.T) {
		h, refused := limited("10.0.0.0/8"), 0
		for i := range 10 {
			spoofed := "198.51.100." + strconv.Itoa(i) + ", 203.0.113.9"
			if w := ask(h, "GET", "/agents", from("10.0.0.1:5"), header("X-Forwarded-For", spoofed)); w.Code == http.StatusTooManyRequests {
				refused++
			}
		}
		if refused != 7 {
			t.Errorf("%d of 10 were refused, want 7", refused)
		}
		if w := ask(h, "GET", "/agents", from("10.0.0.1:5"), header("X-Forwarded-For", "203.0.113.10")); w.Code != http.StatusOK {
			t.Errorf("another client of the proxy: %d, want 200", w.Code)
		}
	})
}
