package redis

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"git.sentryagent.ai/sentryagent-idp/internal/secret"
)

func TestEveryFormOfAURLIsRead(t *testing.T) {
	for text, want := range map[string]string{
		"redis://localhost":                          "[localhost:6379] db 0 user \"\" \"\" tls false single true master \"\"",
		"redis://:p%40ss@10.0.0.1:7000/3":            "[10.0.0.1:7000] db 3 user \"\" \"p@ss\" tls false single true master \"\"",
		"rediss://app:s@[::1]:6380":                  "[[::1]:6380] db 0 user \"app\" \"s\" tls true single true master \"\"",
		"redis+cluster://a,b:7001":                   "[a:6379 b:7001] db 0 user \"\" \"\" tls false single false master \"\"",
		"rediss+cluster://u:p@a":                     "[a:6379] db 0 user \"u\" \"p\" tls true single false master \"\"",
		"redis+sentinel://s1,s2:26380/mymaster":      "[s1:26379 s2:26380] db 0 user \"\" \"\" tls false single false master \"mymaster\"",
		"rediss+sentinel://:p@s1,s2,s3/the.master-1": "[s1:26379 s2:26379 s3:26379] db 0 user \"\" \"p\" tls true single false master \"the.master-1\"",
	} {
		o, err := options(secret.New(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got := fmt.Sprintf("%v db %d user %q %q tls %t single %t master %q", o.InitAddress, o.SelectDB, o.Username, o.Password, o.TLSConfig != nil, o.ForceSingleClient, o.Sentinel.MasterSet)
		if got != want {
			t.Errorf("%s\n%s, want\n%s", text, got, want)
		}
	}
}

func TestABadURLIsRefusedAndNotRepeated(t *testing.T) {
	for _, text := range []string{
		"", "localhost", "://u:SECRET@h", "http://u:SECRET@h", "redis:SECRET", "redis://", "redis://u:SECRET@", "redis://u:SECRET@h:port",
		"redis://u:SECRET@h:0", "redis://u:SECRET@h:65536", "redis://u:%zz@h", "redis://%zz:SECRET@h", "redis://u:SECRET@h/one", "redis://u:SECRET@h/-1",
		"redis://u:SECRET@h/0?db=1", "redis://u:SECRET@h?db=1", "redis://u:SECRET@a,b", "redis+cluster://u:SECRET@a,,b", "redis+cluster://u:SECRET@a/1",
		"redis+sentinel://u:SECRET@a", "redis+sentinel://u:SECRET@a/", "redis+sentinel://u:SECRET@a/m/1", "redis+other://u:SECRET@a", "redis://u:SEC/RET@h",
	} {
		_, err := options(secret.New(text))
		if !errors.Is(err, ErrURL) || strings.Contains(err.Error(), "SEC") {
			t.Errorf("%q: %v, want ErrURL", text, err)
		}
		if _, err := Open(secret.New(text), nil); err == nil {
			t.Errorf("%q was opened", text)
		}
	}
}
