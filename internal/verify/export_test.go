package verify

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"git.sentryagent.ai/sentryagent-idp/internal/transparency"
	"git.sentryagent.ai/sentryagent-idp/internal/verify/verifytest"
)

func TestARightExportIsAccepted(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 7, 64, 100, 1000} {
		l := newLog(t)
		l.fill(n, time.Minute)
		sum, err := l.verify("\n"+strings.ReplaceAll(text(l.Lines(nil, int64(n/3), int64(n/2), int64(n))), "\n", "\n\n"), all)
		if err != nil {
			t.Fatalf("%d events: %v", n, err)
		}
		if sum.Events != int64(n) || sum.Hidden != 0 || sum.Checkpoints != 3 || sum.Last.Size != int64(n) || string(sum.Signed) != string(l.Checkpoint(int64(n))) {
			t.Errorf("%d events: %+v", n, sum)
		}
	}
}

// An organization's export verifies against every size that was remembered: one that
// it shows, and, with a proof, one that lies in what it does not show.
func TestAnExportOfOneOrganizationVerifies(t *testing.T) {
	l := newLog(t)
	l.fill(300, time.Minute)
	hidden := func(i int64) bool { return i%7 != 3 || i > 128 && i < 256 }
	export := text(l.Lines(hidden, 20, 300))
	for size := range int64(301) {
		asked := false
		sum, err := l.verify(export, remember(l.seen(size)), func(c *Config) {
			c.Consistency = func(ctx context.Context, from, to int64) (Consistency, error) {
				asked = true
				return l.consistency(ctx, from, to)
			}
		})
		if err != nil {
			t.Fatalf("remembered %d: %v", size, err)
		}
		if sum.Leaves() != 300 || sum.Subtrees == 0 || sum.Hidden != 300-sum.Events {
			t.Fatalf("%+v", sum)
		}
		if size == 200 && !asked {
			t.Error("a size that is not shown was believed without a proof")
		}
		if size == 20 && asked {
			t.Error("a proof was asked for, of a size that is shown")
		}
	}
	if _, err := l.verify(export, remember(l.seen(200))); !errors.Is(err, ErrNeedsConsistency) {
		t.Errorf("without a proof: %v", err)
	}
	broken := errors.New("broken")
	_, err := l.verify(export, remember(l.seen(200)), func(c *Config) {
		c.Consistency = func(context.Context, int64, int64) (Consistency, error) { return Consistency{}, broken }
	})
	if !errors.Is(err, broken) {
		t.Errorf("with no answer: %v", err)
	}
}

// What is done to the lines of an export, as if by somebody in between.
func TestAChangedExportIsRefused(t *testing.T) {
	l := newLog(t)
	l.fill(100, time.Minute)
	lines := l.Lines(nil, 50, 100) // event n is line n-1, and from 51 on line n
	hash := func(sequence int64) tlog.Hash { return l.LeafHash(sequence - 1) }
	foreign := newLog(t)
	foreign.fill(100, time.Minute)
	for name, c := range map[string]struct {
		do       func(lines []string) []string
		kind     Kind
		sequence int64
		id       string
	}{
		"one byte changed": {func(s []string) []string {
			s[41] = strings.Replace(s[41], `"token.issued"`, `"token.denied"`, 1)
			return s
		}, Altered, 42, id(l.Bodies[41])},
		"the salt changed": {func(s []string) []string {
			s[41] = s[41][:len(s[41])-3] + "z" + s[41][len(s[41])-2:]
			return s
		}, Altered, 42, id(l.Bodies[41])},
		"the leaf hash changed": {func(s []string) []string {
			s[41] = strings.Replace(s[41], hash(42).String(), hash(41).String(), 1)
			return s
		}, Altered, 42, id(l.Bodies[41])},
		"another version": {func(s []string) []string {
			body := strings.Replace(string(l.Bodies[41]), `"v":1`, `"v":2`, 1)
			s[41] = verifytest.EventLine(42, tlog.RecordHash([]byte(body)), []byte(body))
			return s
		}, UnknownVersion, 42, id(l.Bodies[41])},
		"removed from the middle": {func(s []string) []string { return slices.Delete(s, 41, 42) }, Missing, 42, ""},
		"the first removed":       {func(s []string) []string { return s[1:] }, Missing, 1, ""},
		"the newest removed":      {func(s []string) []string { return slices.Delete(s, 100, 101) }, Missing, 100, ""},
		"the last lines removed":  {func(s []string) []string { return s[:90] }, CutOff, 51, ""},
		"all removed":             {func(s []string) []string { return s[:0] }, CutOff, 1, ""},
		"cut off within a line":   {func(s []string) []string { s[90] = "\x00"; return s[:91] }, CutOff, 90, ""},
		"two swapped":             {func(s []string) []string { s[41], s[42] = s[42], s[41]; return s }, Reordered, 42, id(l.Bodies[41])},
		"two swapped far apart":   {func(s []string) []string { s[3], s[90] = s[90], s[3]; return s }, Reordered, 4, id(l.Bodies[3])},
		"one twice":               {func(s []string) []string { return slices.Insert(s, 42, s[41]) }, Reordered, 42, id(l.Bodies[41])},
		"one inserted": {func(s []string) []string {
			return slices.Insert(s, 41, verifytest.EventLine(41, hash(42), l.Bodies[41]))
		}, Reordered, 41, id(l.Bodies[41])},
		"one inserted at the end": {func(s []string) []string {
			return slices.Insert(s, 101, verifytest.EventLine(101, hash(42), l.Bodies[41]))
		}, Inserted, 101, ""},
		"a subtree for one that was": {func(s []string) []string { s[41] = verifytest.SubtreeLine(41, 42, tlog.Hash{1}); return s }, WrongTree, 1, ""},
		"a subtree too far":          {func(s []string) []string { s[41] = verifytest.SubtreeLine(42, 43, hash(43)); return s }, Missing, 42, ""},
		"a subtree again":            {func(s []string) []string { s[41] = verifytest.SubtreeLine(40, 41, hash(41)); return s }, Reordered, 41, ""},
		"a subtree swapped":          {func(s []string) []string { s[41], s[42] = s[42], verifytest.SubtreeLine(41, 42, hash(42)); return s }, Reordered, 42, ""},
		"a subtree of three":         {func(s []string) []string { s[41] = verifytest.SubtreeLine(41, 44, hash(43)); return s }, Malformed, 42, ""},
		"a subtree of three in line": {func(s []string) []string { s[42] = verifytest.SubtreeLine(42, 45, l.LeafHash(43)); return s }, Malformed, 43, ""},
		"a subtree out of line":      {func(s []string) []string { s[41] = verifytest.SubtreeLine(41, 43, hash(43)); return s }, Malformed, 42, ""},
		"a subtree of nothing":       {func(s []string) []string { s[41] = verifytest.SubtreeLine(41, 41, hash(43)); return s }, Malformed, 42, ""},
		"a line of something else":   {func(s []string) []string { s[41] = `{"hello":1}`; return s }, Malformed, 42, ""},
		"a line without a hash":      {func(s []string) []string { s[41] = `{"sequence":42,` + string(l.Bodies[41][1:]); return s }, Malformed, 42, ""},
		"another log's checkpoint":   {func(s []string) []string { s[101] = verifytest.CheckpointLine(foreign.Checkpoint(100)); return s }, WrongSignature, 51, ""},
		"a signature changed":        {func(s []string) []string { s[101] = strings.Replace(s[101], "100\\n", "101\\n", 1); return s }, WrongSignature, 51, ""},
		"a checkpoint broken":        {func(s []string) []string { s[101] = `{"checkpoint":1}`; return s }, Malformed, 101, ""},
		"a checkpoint with more":     {func(s []string) []string { s[101] = s[101][:len(s[101])-1] + `,"x":1}`; return s }, Malformed, 101, ""},
		"the first checkpoint again": {func(s []string) []string { return append(s, s[50]) }, Reordered, 50, ""},
		"the first checkpoint late":  {func(s []string) []string { s[50], s[51] = s[51], s[50]; return s }, Inserted, 51, ""},
		"a wrong checkpoint only": {func(s []string) []string {
			return slices.Insert(s, 51, verifytest.CheckpointLine(foreign.Checkpoint(50)))
		}, WrongSignature, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			export := text(c.do(slices.Clone(lines)))
			if strings.HasSuffix(export, "\x00\n") {
				export = export[:len(export)-2] + lines[90][:100]
			}
			_, err := l.verify(strings.TrimPrefix(export, "\n"), all)
			if f := wrong(t, err, c.kind, c.sequence); f.ID != c.id {
				t.Errorf("it names the event %q, want %q: %v", f.ID, c.id, f)
			}
		})
	}
}

// What the owner of the database does: the events, their hashes, and all of the tree are
// made anew, so that the export is right in itself. Only checkpoints that were signed
// before, or seen before, are out of reach.
func TestARecordThatWasMadeAnewIsRefused(t *testing.T) {
	l := newLog(t)
	l.fill(100, time.Minute)
	changes := map[string]func() *testLog{
		"one byte changed": func() *testLog {
			f := l.fork(41)
			f.Append([]byte(strings.Replace(string(l.Bodies[41]), "token.issued", "token.denied", 1)))
			for _, b := range l.Bodies[42:] {
				f.Append(b)
			}
			return f
		},
		"two swapped": func() *testLog {
			f := l.fork(41)
			for _, b := range append([][]byte{l.Bodies[42], l.Bodies[41]}, l.Bodies[43:]...) {
				f.Append(b)
			}
			return f
		},
		"removed from the middle": func() *testLog {
			f := l.fork(41)
			for _, b := range l.Bodies[42:] {
				f.Append(b)
			}
			f.Append(event(0, orgA, "in its place"))
			return f
		},
		"one inserted": func() *testLog {
			f := l.fork(41)
			f.Append(event(time.Hour, orgA, "slipped in"))
			for _, b := range l.Bodies[41:99] {
				f.Append(b)
			}
			return f
		},
	}
	for name, change := range changes {
		t.Run(name+", the checkpoint being the old one", func(t *testing.T) {
			f := change()
			lines := f.Lines(nil)
			lines[len(lines)-1] = verifytest.CheckpointLine(l.Checkpoint(100))
			_, err := l.verify(text(lines), all)
			if got := wrong(t, err, WrongTree, 1); got.Last != 100 {
				t.Errorf("it lies up to %d", got.Last)
			}
			// An older checkpoint, here or remembered, narrows it down.
			lines = slices.Insert(lines, 41, verifytest.CheckpointLine(l.Checkpoint(41)))
			_, err = l.verify(text(lines), all, remember(l.seen(60)))
			if got := wrong(t, err, WrongTree, 42); got.Last != 60 {
				t.Errorf("it lies up to %d", got.Last)
			}
			_, err = l.verify(text(lines), all, remember(l.seen(30)))
			wrong(t, err, WrongTree, 42)
		})
		// Who has the log's key, too, signs it all anew.
		t.Run(name+", and signed", func(t *testing.T) {
			f := change()
			for range 5 {
				f.Append(event(0, orgA, "after it"))
			}
			if _, err := l.verify(text(f.Lines(nil)), all); err != nil {
				t.Fatal("a fork that nobody saw before cannot be told: ", err)
			}
			_, err := l.verify(text(f.Lines(nil)), all, remember(l.seen(100)))
			if got := wrong(t, err, Forked, 1); got.Last != 100 {
				t.Errorf("it lies up to %d", got.Last)
			}
			// In what is not shown it is found as well.
			export := text(f.Lines(func(i int64) bool { return i > 32 }))
			_, err = l.verify(export, remember(l.seen(100)), func(c *Config) { c.Consistency = f.consistency })
			wrong(t, err, Forked, 1)
			_, err = l.verify(export, remember(l.seen(100)), func(c *Config) { c.Consistency = l.fork(100).grow(5).consistency })
			wrong(t, err, Forked, 1)
		})
	}
	t.Run("the same size", func(t *testing.T) {
		f := changes["two swapped"]()
		_, err := l.verify(text(f.Lines(nil)), all, remember(l.seen(100)))
		wrong(t, err, Forked, 1)
	})
	t.Run("restored from yesterday", func(t *testing.T) {
		f := l.fork(80)
		_, err := l.verify(text(f.Lines(nil)), all, remember(l.seen(100)))
		if got := wrong(t, err, RolledBack, 81); got.Last != 100 {
			t.Errorf("it lies up to %d", got.Last)
		}
		_, err = l.verify(text(f.grow(20).Lines(nil)), all, remember(l.seen(100)))
		wrong(t, err, Forked, 1)
	})
}

func (l *testLog) grow(n int) *testLog {
	l.fill(n, 0)
	return l
}

func TestOnlyTheFormOfTheDocumentIsAnEvent(t *testing.T) {
	right := string(event(time.Minute, orgA, "x"))
	name := id([]byte(right))
	for what, body := range map[string]string{
		"upper case":         strings.Replace(right, name, strings.ToUpper(name), 1),
		"version 4":          strings.Replace(right, name, name[:14]+"4"+name[15:], 1),
		"variant":            strings.Replace(right, name, name[:19]+"1"+name[20:], 1),
		"no dash":            strings.Replace(right, name, name[:8]+"0"+name[9:], 1),
		"another time":       strings.Replace(right, "2026-06-01T11:59", "2026-06-01T11:58", 1),
		"a day there is not": strings.Replace(right, "2026-06-01", "2026-06-31", 1),
		"a time of letters":  strings.Replace(right, "2026-06-01", "2026-O6-01", 1),
		"a time of spaces":   strings.Replace(right, "2026-06-01", "2026 06 01", 1),
		"other members":      `{"v":1,"x":"` + name + `"}`,
		"an end too soon":    `{"v":1,"id":"` + name + `","time":"2026"}`,
		"white space":        right + " ",
		"no version":         strings.Replace(right, `"v":1,`, `"v":"1",`, 1),
	} {
		l := newLog(t)
		l.Append([]byte(body))
		_, err := l.verify(text(l.Lines(nil)))
		if f := wrong(t, err, Malformed, 1); f.Line != 1 {
			t.Errorf("%s: %v", what, f)
		}
	}
}

func TestALongLineIsRefusedUnread(t *testing.T) {
	l := newLog(t)
	l.Append(event(0, orgA, strings.Repeat("x", maxLine-700)))
	if _, err := l.verify(text(l.Lines(nil))); err != nil {
		t.Fatalf("a line of nearly 1 MiB: %v", err)
	}
	l.Append(event(0, orgA, strings.Repeat("x", maxLine)))
	_, err := l.verify(text(l.Lines(nil)))
	wrong(t, err, Malformed, 2)
	endless := io.MultiReader(strings.NewReader(`{"sequence":1,`), iotest.ErrReader(errors.New("read on")))
	if _, err := Export(t.Context(), endless, l.config()); err == nil || !strings.Contains(err.Error(), "read on") {
		t.Errorf("a reader that fails: %v", err)
	}
}

func TestWhatCannotBeReadIsNoVerdict(t *testing.T) {
	l := newLog(t)
	l.fill(5, time.Minute)
	var f *Failure
	plain := `{"sequence":1,` + string(l.Bodies[0][1:])
	if _, err := l.verify(plain + "\n"); err == nil || errors.As(err, &f) {
		t.Errorf("an export without hashes: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l.fill(reportEvery, time.Minute)
	if _, err := Export(ctx, strings.NewReader(text(l.Lines(nil))), l.config()); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	var reported Summary
	if _, err := l.verify(text(l.Lines(nil)), func(c *Config) { c.Progress = func(s Summary) { reported = s } }); err != nil || reported.Leaves() != reportEvery-1 {
		t.Errorf("reported %+v, %v", reported, err)
	}
}

// Sizes that no log has must not be counted with.
func TestAbsurdSizesAreRefused(t *testing.T) {
	l := newLog(t)
	for _, line := range []string{
		verifytest.SubtreeLine(0, 1<<61, tlog.Hash{}), verifytest.SubtreeLine(0, 1<<62, tlog.Hash{}), `{"leaves":[0,99999999999999999999],"hash":"` + tlog.Hash{}.String() + `"}`,
		`{"leaves":[00,1],"hash":"` + tlog.Hash{}.String() + `"}`, `{"leaves":[-1,0],"hash":"` + tlog.Hash{}.String() + `"}`,
		`{"leaves":[0,1],"hash":"` + tlog.Hash{}.String() + `","x":1}`, `{"leaves":[0,1],"hash":"x"}`, `{"leaves":[0`, `{"leaves":[0]`,
		`{"leaves":[0,1],"hash":"` + strings.Repeat("=", 44) + `"}`, `{"sequence":0,"leafHash":`, `{"sequence":01,"leafHash":`, `{"sequence":1`,
	} {
		_, err := l.verify(line + "\n")
		wrong(t, err, Malformed, 1)
	}
	// The largest that is taken works.
	big := transparency.Checkpoint{Origin: l.Verifier.Name(), Size: 1 << 60, Root: tlog.Hash{7}}
	if _, err := l.verify(verifytest.SubtreeLine(0, 1<<60, tlog.Hash{7}) + "\n" + verifytest.CheckpointLine(l.Sign(big)) + "\n"); err != nil {
		t.Error(err)
	}
}
