package agent_test

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/organization"
)

const maxTTL = time.Hour

func draft() agent.Draft {
	return agent.Draft{
		Email: "screener@acme.example", Type: "screener", Version: "v1.2.3", Capabilities: []string{"resume:read"},
		Owner: "talent team", DeploymentEnv: "production",
	}
}

func validate(d agent.Draft) error {
	return agent.NewService(nil, nil, maxTTL, time.Now).Validate(organization.DefaultID(), d)
}

// wantField checks that err is about exactly that field, or nil where the rule is empty.
func wantField(t *testing.T, err error, field, rule string) {
	t.Helper()
	if rule == "" {
		if err != nil {
			t.Errorf("refused: %v %+v", err, fault.As(err).Fields)
		}
		return
	}
	if !fault.Is(err, fault.CodeValidation) || len(fault.As(err).Fields) == 0 {
		t.Errorf("got %v, want VALIDATION_ERROR of %s", err, field)
		return
	}
	for _, f := range fault.As(err).Fields {
		if f.Field != field || f.Rule != rule || !strings.HasPrefix(f.Message, field+" ") {
			t.Errorf("%+v is named, want %s of %s", f, rule, field)
		}
	}
}

func TestEveryTextOfAnAgentKeepsItsRule(t *testing.T) { // (R1, R27)
	set := map[string]func(*agent.Draft, string){
		"email":         func(d *agent.Draft, s string) { d.Email = s },
		"agentType":     func(d *agent.Draft, s string) { d.Type = s },
		"version":       func(d *agent.Draft, s string) { d.Version = s },
		"owner":         func(d *agent.Draft, s string) { d.Owner = s },
		"deploymentEnv": func(d *agent.Draft, s string) { d.DeploymentEnv = s },
	}
	long := func(n int) string { return strings.Repeat("a", n) }
	for _, c := range []struct {
		field, rule  string
		right, wrong []string
	}{
		{
			"email", "format",
			[]string{
				"a@b", "A.B+c@Acme.example", "screener-1@agents.acme.example", long(64) + "@b",
				"a@" + strings.Repeat(long(63)+".", 3) + long(60), "a@localhost", "a@127.0.0.1", "a@x--1.B-2.c", "a@" + long(63),
			},
			[]string{
				"", "a", "@b", "a@", "a@b@c", " a@b", "a@b ", "a b@c", "a@b\n", "Me <a@b>", "<a@b>", "a@b, c@d", "a@[127.0.0.1]",
				`"a b"@c`, `"a"@b`, "a@b (me)", "ä@b", "a@ä", "a..b@c", ".a@b", long(65) + "@b", "a@" + long(253),
				"a@" + long(64), "a@b." + long(64), "a@b_c", "a@b!c", "a@-b", "a@b-", "a@b.-c", "a@b-.c", "a@b.", "a@.b", "a@b..c",
				"\u212aate@b", "a@\u212a",
			},
		},
		{
			"agentType", "pattern",
			[]string{"a", "screener", "resume-screener_2", "a-", long(64)},
			[]string{"", "A", "1a", "-a", "_a", "a b", "a.b", "ä", "a\n", long(65)},
		},
		{
			"version", "pattern",
			[]string{
				"0.0.0", "1.2.3", "v1.2.3", "v10.20.30", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-0.3.7", "1.0.0-x-y-z.--",
				"1.0.0+20130313144700", "1.0.0-beta+exp.sha.5114f85", "1.0.0+21AF26D3---117B344092BD", "1.0.0+001", "1.0.0-0a",
				"v99999999999999999999.0.0", "1.2.3-" + long(58),
			},
			[]string{
				"", "v", "1", "1.2", "1.2.3.4", "V1.2.3", "vv1.2.3", "01.2.3", "1.02.3", "1.2.03", "1.2.3-", "1.2.3+", "1.2.3-01",
				"1.2.3-a..b", "1.2.3-a_b", "1.2.3+a+b", "1.2.3 ", " 1.2.3", "-1.2.3", "1.2.x", "1.2.٣", "latest", "1.2.3-" + long(59),
			},
		},
		{
			"owner", "pattern",
			[]string{"a", "talent team", "Équipe 日本", strings.Repeat("é", 128)},
			[]string{" a", "a ", "a\tb", "a\nb", "a\x00", "a\xff", "a\u200b"},
		},
		{
			"owner", "minLength", nil, []string{""},
		},
		{
			"owner", "maxLength", nil, []string{long(129)},
		},
		{
			"deploymentEnv", "enum",
			[]string{"development", "staging", "production"},
			[]string{"", "prod", "Production", "production "},
		},
	} {
		for _, value := range c.right {
			t.Run(c.field+" may be "+strconv.Quote(value), func(t *testing.T) {
				d := draft()
				set[c.field](&d, value)
				wantField(t, validate(d), "", "")
			})
		}
		for _, value := range c.wrong {
			t.Run(c.field+" may not be "+strconv.Quote(value), func(t *testing.T) {
				d := draft()
				set[c.field](&d, value)
				wantField(t, validate(d), c.field, c.rule)
			})
		}
	}
}

func TestCapabilitiesKeepTheirRules(t *testing.T) { // (R1, R36)
	many := func(n int) []string {
		var names []string
		for i := range n {
			names = append(names, "doc:read"+strconv.Itoa(i))
		}
		return names
	}
	for _, c := range []struct {
		name         string
		capabilities []string
		field, rule  string
	}{
		{"one", []string{"resume:read"}, "", ""},
		{"not sorted", []string{"b:z", "a:z"}, "", ""},
		{"a hundred", many(100), "", ""},
		{"128 bytes", []string{"a:" + strings.Repeat("b", 126)}, "", ""},
		{"none", nil, "capabilities", "minItems"},
		{"a hundred and one", many(101), "capabilities", "maxItems"},
		{"repeated", []string{"a:b", "c:d", "a:b"}, "capabilities", "unique"},
		{"no action", []string{"a:b", "resume"}, "capabilities[1]", "pattern"},
		{"empty action", []string{"resume:"}, "capabilities[0]", "pattern"},
		{"upper case", []string{"Resume:read"}, "capabilities[0]", "pattern"},
		{"a space", []string{"resume:read mail:send"}, "capabilities[0]", "pattern"},
		{"a wildcard", []string{"resume:*"}, "capabilities[0]", "pattern"},
		{"empty", []string{""}, "capabilities[0]", "pattern"},
		{"129 bytes", []string{"a:" + strings.Repeat("b", 127)}, "capabilities[0]", "pattern"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := draft()
			d.Capabilities = c.capabilities
			wantField(t, validate(d), c.field, c.rule)
		})
	}
}

func TestMetadataKeepsItsRules(t *testing.T) {
	nested := func(levels int) string {
		return strings.Repeat(`{"a":`, levels) + "1" + strings.Repeat("}", levels)
	}
	sized := func(size int) string { return `{"a":"` + strings.Repeat("x", size-len(`{"a":""}`)) + `"}` }
	for _, c := range []struct {
		name, metadata, rule string
	}{
		{"empty object", "{}", ""},
		{"any members", `{"team":"a","tags":[1,null,true],"n":{"m":1.5e3}}`, ""},
		{"outer space", " {} ", ""},
		{"16 KiB", sized(16 << 10), ""},
		{"a byte more", sized(16<<10 + 1), "size"},
		{"8 levels", nested(8), ""},
		{"9 levels", nested(9), "depth"},
		{"9 levels with arrays", `{"a":` + strings.Repeat("[", 8) + strings.Repeat("]", 8) + `}`, "depth"},
		{"brackets in a text", `{"a":"[[[[[[[[[[{{{{{{{{\"[[[["}`, ""},
		{"null", "null", "type"},
		{"an array", "[]", "type"},
		{"a text", `"a"`, "type"},
		{"nothing", " ", "type"},
		{"two objects", "{}{}", "type"},
		{"not ended", `{"a":1`, "type"},
		{"not JSON", `{a:1}`, "type"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := draft()
			d.Metadata = json.RawMessage(c.metadata)
			field := ""
			if c.rule != "" {
				field = "metadata"
			}
			wantField(t, validate(d), field, c.rule)
		})
	}
}

func TestAnAgentsOwnTokenLifetimeKeepsItsBounds(t *testing.T) {
	for _, c := range []struct {
		ttl  time.Duration
		rule string
	}{
		{0, ""},
		{time.Minute, ""},
		{maxTTL, ""},
		{time.Minute - time.Second, "minimum"},
		{time.Second, "minimum"},
		{-time.Hour, "minimum"},
		{maxTTL + time.Second, "maximum"},
	} {
		t.Run(c.ttl.String(), func(t *testing.T) {
			d := draft()
			d.TokenTTL = c.ttl
			wantField(t, validate(d), "tokenTtlSeconds", c.rule)
		})
	}
}

func TestAllThatIsWrongIsNamedAtOnce(t *testing.T) { // (R32)
	err := validate(agent.Draft{Metadata: json.RawMessage("[]"), TokenTTL: time.Second})
	if !fault.Is(err, fault.CodeValidation) {
		t.Fatalf("an empty draft gave %v", err)
	}
	named := map[string]bool{}
	for _, f := range fault.As(err).Fields {
		named[f.Field] = true
	}
	for _, field := range []string{"email", "agentType", "version", "capabilities", "owner", "deploymentEnv", "metadata", "tokenTtlSeconds"} {
		if !named[field] {
			t.Errorf("%s is wrong and not named", field)
		}
	}
}
