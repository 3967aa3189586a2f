package printable_test

import (
	"slices"
	"strings"
	"testing"

	"git.sentryagent.ai/sentryagent-idp/internal/printable"
)

func TestTextThatPeopleReadShowsWhatItIs(t *testing.T) { // (R32)
	for _, c := range []struct {
		name, text string
		broken     []string
	}{
		{"nothing", "", nil},
		{"words", "talent team", nil},
		{"any script", "Équipe 日本 🚀", nil},
		{"as many characters as allowed, in more bytes", strings.Repeat("é", 16), nil},
		{"a character more", strings.Repeat("é", 17), []string{"maxLength"}},
		{"a space before", " a", []string{"pattern"}},
		{"a space after", "a ", []string{"pattern"}},
		{"a space of another kind inside", "a\u00a0b", []string{"pattern"}},
		{"a tab", "a\tb", []string{"pattern"}},
		{"a line end", "a\nb", []string{"pattern"}},
		{"NUL", "a\x00", []string{"pattern"}},
		{"an escape", "a\x1b[31mb", []string{"pattern"}},
		{"no UTF-8", "a\xff", []string{"pattern"}},
		{"a character that takes no room", "a\u200bb", []string{"pattern"}},
		{"a mark that turns text around", "a\u202eb", []string{"pattern"}},
		{"all at once", strings.Repeat("a", 16) + "\n", []string{"maxLength", "pattern"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var broken []string
			for _, f := range printable.Check("owner", c.text, 16) {
				broken = append(broken, f.Rule)
				if f.Field != "owner" || !strings.HasPrefix(f.Message, "owner must be ") {
					t.Errorf("it is told as %+v", f)
				}
			}
			if !slices.Equal(broken, c.broken) {
				t.Errorf("it breaks %v, want %v", broken, c.broken)
			}
		})
	}
}
