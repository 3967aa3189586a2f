package scope_test

import (
	"slices"
	"strings"
	"testing"

	"git.sentryagent.ai/sentryagent-idp/internal/scope"
)

func TestParse(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"files:read", "files:read"},
		{"b:x a:x b:x", "a:x b:x"},
		{"a.b-c_1:read", "a.b-c_1:read"},
	} {
		got, err := scope.Parse(tc.in)
		if err != nil || got.String() != tc.want {
			t.Errorf("Parse(%q) = %q, %v; want %q", tc.in, got, err, tc.want)
		}
	}
	for _, in := range []string{
		"", " ", "a:x ", " a:x", "a:x  b:x", "a", ":", "a:", ":x", "a:b:c", "A:x", "a:*", "*", "a:x\n", "a:\x00", "-a:x", "é:x",
		"a:" + strings.Repeat("x", scope.MaxLength), strings.Repeat("a:x ", 200) + "a:x", strings.Repeat("a", 1<<20),
	} {
		if got, err := scope.Parse(in); err == nil {
			t.Errorf("Parse(%.40q) = %q, want ErrMalformed", in, got)
		}
	}
}

func TestSetMembers(t *testing.T) {
	s := scope.New("z:z", scope.AgentsRead, "a:a")
	if !s.Has("a:a") || s.Has("b:b") {
		t.Error("Has is wrong")
	}
	if got := s.Missing(scope.New("a:a", "b:b")); !slices.Equal(got, scope.New("b:b")) {
		t.Errorf("Missing = %v, want b:b", got)
	}
	if got := s.Managing(); !slices.Equal(got, scope.New(scope.AgentsRead)) {
		t.Errorf("Managing = %v", got)
	}
	if got := s.Ordinary(); !slices.Equal(got, scope.New("a:a", "z:z")) {
		t.Errorf("Ordinary = %v", got)
	}
	for _, name := range scope.Management() {
		if !scope.IsManagement(name) || !scope.ValidName(name) {
			t.Errorf("%s should be a valid management scope", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"", "files:read", "a:x b:y", "a:x  b:y", "A:*", "a:\x00", "é:x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		got, err := scope.Parse(in)
		if err != nil {
			return
		}
		again, err := scope.Parse(got.String())
		if err != nil || !slices.Equal(got, again) {
			t.Errorf("Parse(%q) = %q does not survive its own text: %q, %v", in, got, again, err)
		}
	})
}
