package page_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
)

func TestCursorSurvivesItsText(t *testing.T) {
	want := page.Cursor{Time: time.UnixMicro(1_700_000_000_123_456).UTC(), ID: uuid.New()}
	got, err := page.ParseCursor(want.String())
	if err != nil || got != want {
		t.Errorf("ParseCursor = %v, %v; want %v", got, err, want)
	}
	if first, err := page.ParseCursor(""); err != nil || !first.IsZero() {
		t.Errorf("an absent cursor should be the list's beginning, got %v, %v", first, err)
	}
}

func TestForeignCursorsAreRefusedByName(t *testing.T) {
	good := page.Cursor{Time: time.UnixMicro(1), ID: uuid.New()}.String()
	for _, s := range []string{"x", "../../etc", good[1:], good + "A", strings.Repeat("A", len(good)), "=" + good[1:], strings.Repeat("A", 1<<16)} {
		_, err := page.ParseCursor(s)
		if f := fault.As(err); f == nil || len(f.Fields) != 1 || f.Fields[0].Field != "cursor" {
			t.Errorf("ParseCursor(%.40q): %v, want a validation error naming cursor", s, err)
		}
	}
}

func TestCutKnowsTheLastPage(t *testing.T) {
	at := func(n int) page.Cursor { return page.Cursor{Time: time.UnixMicro(int64(n))} }
	if p := page.Cut([]int{3, 2, 1}, 3, at); p.Next != "" || len(p.Items) != 3 {
		t.Errorf("a page that is not full up should be the last: %+v", p)
	}
	if p := page.Cut([]int{4, 3, 2, 1}, 3, at); p.Next != at(2).String() || len(p.Items) != 3 {
		t.Errorf("the next page should begin after the last item shown: %+v", p)
	}
}

func FuzzParseCursor(f *testing.F) {
	f.Add("")
	f.Add(page.Cursor{Time: time.UnixMicro(1), ID: uuid.Nil}.String())
	f.Add("AQ")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := page.ParseCursor(s)
		if err == nil && c.String() != s && s != "" {
			t.Errorf("%q was read as %v, which is written %q", s, c, c)
		}
	})
}
