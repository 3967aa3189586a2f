package config_test

import (
	"strings"
	"testing"
)

// A database or a Redis on another machine is reached over a network (R38).
func TestConnectionsInTheClearAreWarnedOf(t *testing.T) {
	for setting, inClear := range map[string]bool{
		"DATABASE_URL=sqlite:/db":                                                      false,
		"DATABASE_URL=postgres://u:p@db1:5432,db2:5432/idp":                            true,
		"DATABASE_URL=postgres://u:p@localhost,db2/idp?sslmode=require":                true,
		"DATABASE_URL=postgres://u:p@10.0.0.1?sslmode=disable":                         true,
		"DATABASE_URL=postgres://u:p@db1:5432,db2:5432/idp?pool=1&sslmode=verify-full": false,
		"DATABASE_URL=postgres://u:p%40x@127.0.0.1:5432,[::1]:5433/idp":                false,
		"DATABASE_URL=postgres://localhost/idp":                                        false,
		"DATABASE_URL=postgres:///idp?host=/run/postgresql":                            false,
		"REDIS_URL=redis://:p@cache:6379":                                              true,
		"REDIS_URL=redis+sentinel://127.0.0.1,cache/m":                                 true,
		"REDIS_URL=rediss://:p@cache:6379":                                             false,
		"REDIS_URL=rediss+cluster://cache":                                             false,
		"REDIS_URL=redis://[::1]:6379/1":                                               false,
	} {
		warnings := strings.Join(mustLoad(t, setting).Warnings(), "\n")
		name, _, _ := strings.Cut(setting, "=")
		if got := strings.Contains(warnings, name+" "); got != inClear {
			t.Errorf("%s: warned %t, want %t:\n%s", setting, got, inClear, warnings)
		}
		if strings.Contains(warnings, "u:p") {
			t.Errorf("%s: the warning repeats the password", setting)
		}
	}
}
