package oauth

import (
	"encoding/base64"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func TestFormsAreReadStrictly(t *testing.T) {
	f, err := parseForm("grant_type=client_credentials&scope=a%3Ax+b%3Ay&resource=https://a.test&resource=https://b.test")
	if err != nil || f.get("scope") != "a:x b:y" || !slices.Equal(f.resources, []string{"https://a.test", "https://b.test"}) {
		t.Errorf("parseForm = %+v, %v", f, err)
	}
	for _, body := range []string{"a=1&a=1", "scope=a&scope=b", "a=%", "a=%zz", "a=%00", "a=\x01", "a=%ff", "%00=a"} {
		if f, err := parseForm(body); err == nil {
			t.Errorf("parseForm(%q) = %+v, want invalid_request", body, f)
		}
	}
}

func TestAnEmptyParameterCountsAsLeftOut(t *testing.T) {
	f, err := parseForm("scope=&scope=a:b&resource=&audience=")
	if err != nil || f.get("scope") != "a:b" || len(f.resources) != 0 {
		t.Errorf("parseForm = %+v, %v", f, err)
	}
}

func TestBasicHeader(t *testing.T) {
	basic := func(s string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(s)) }
	p, ok := parseBasic(basic("cl%20ient:s%3Acret"))
	if !ok || p.clientID != "cl ient" || p.secret.Reveal() != "s:cret" {
		t.Errorf("parseBasic = %v, %v", p.clientID, ok)
	}
	for _, h := range []string{"", "Basic", "Basic ", "Basic !!!", basic("noseparator"), basic(":x"), basic("x:"), basic("x:%zz"), basic("x:\x00"), "Bearer abc", "Basic " + strings.Repeat("A", 1<<20)} {
		if p, ok := parseBasic(h); ok {
			t.Errorf("parseBasic(%.40q) gave the client %q", h, p.clientID)
		}
	}
}

func TestAudience(t *testing.T) {
	f := form{values: []parameter{{"audience", "svc"}}, resources: []string{"https://a.test/x", "urn:example:b", "https://a.test/x"}}
	got, err := f.audience()
	if err != nil || !slices.Equal(got, []string{"https://a.test/x", "urn:example:b", "svc"}) {
		t.Errorf("audience = %v, %v", got, err)
	}
	for _, resource := range []string{"", "/relative", "https://a.test/#f", "https://a.test/#", "https://", "not a uri", "https://u:p@a.test", "https://a.test/\x7f", "https://a.test/" + strings.Repeat("x", 600)} {
		if got, err := (form{resources: []string{resource}}).audience(); err == nil {
			t.Errorf("resource %.40q gave %v, want invalid_target", resource, got)
		}
	}
	if _, err := (form{resources: make([]string, 9)}).audience(); err == nil {
		t.Error("nine resources were taken")
	}
}

func FuzzParseForm(f *testing.F) {
	for _, seed := range []string{"", "grant_type=client_credentials", "a=1&a=2", "a=%00", "resource=x&resource=y", "=&=", "%zz"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		parsed, err := parseForm(body)
		if err != nil {
			return
		}
		standard, err := url.ParseQuery(body)
		if err != nil {
			return // the standard parser also refuses semicolons
		}
		for _, p := range parsed.values {
			if standard.Get(p.name) != p.value || len(standard[p.name]) != 1 {
				t.Errorf("%q: %s is %q here and %q to others", body, p.name, p.value, standard[p.name])
			}
		}
	})
}

func FuzzParseBasic(f *testing.F) {
	for _, seed := range []string{"", "Basic", "Basic eDp5", "basic eDp5", "Basic Og==", "Bearer x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		if p, ok := parseBasic(header); ok && (p.clientID == "" || p.secret.IsZero() || !clean(p.clientID)) {
			t.Errorf("%q gave the client %q", header, p.clientID)
		}
	})
}
