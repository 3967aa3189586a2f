package verify

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"git.sentryagent.ai/sentryagent-idp/internal/transparency"
)

func encoded(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestAProofVerifiesOffline(t *testing.T) {
	l := newLog(t)
	l.fill(70, time.Minute)
	for _, size := range []int64{1, 2, 5, 64, 70} {
		for leaf := range size {
			p, err := ReadInclusion(strings.NewReader(encoded(t, l.inclusion(leaf, size))))
			if err != nil {
				t.Fatal(err)
			}
			e, c, err := p.Verify(l.Verifier)
			if err != nil || e.Sequence != leaf+1 || e.ID.String() != id(l.Bodies[leaf]) || c.Size != size {
				t.Fatalf("leaf %d of %d: %v %+v", leaf, size, err, c)
			}
		}
	}
}

func TestAWrongProofIsRefused(t *testing.T) {
	l, foreign := newLog(t), newLog(t)
	l.fill(70, time.Minute)
	foreign.fill(70, time.Minute)
	for name, c := range map[string]struct {
		do   func(p *Inclusion)
		kind Kind
	}{
		"another byte":      {func(p *Inclusion) { p.Leaf[100] ^= 1 }, WrongTree},
		"another index":     {func(p *Inclusion) { p.LeafIndex-- }, WrongTree},
		"another size":      {func(p *Inclusion) { p.TreeSize-- }, WrongTree},
		"another hash":      {func(p *Inclusion) { p.Hashes[2][0] ^= 1 }, WrongTree},
		"a hash less":       {func(p *Inclusion) { p.Hashes = p.Hashes[1:] }, WrongTree},
		"a hash more":       {func(p *Inclusion) { p.Hashes = append(p.Hashes, tlog.Hash{}) }, WrongTree},
		"another signature": {func(p *Inclusion) { p.Checkpoint = string(foreign.Checkpoint(70)) }, WrongSignature},
		"another tree":      {func(p *Inclusion) { p.Checkpoint = string(l.Checkpoint(69)) }, WrongTree},
	} {
		p := l.inclusion(42, 70)
		p.Leaf = append([]byte(nil), p.Leaf...)
		c.do(&p)
		_, _, err := p.Verify(l.Verifier)
		if f := wrong(t, err, c.kind, p.LeafIndex+1); f.ID == "" {
			t.Errorf("%s: it names no event", name)
		}
	}
	for kind, body := range map[Kind]string{
		UnknownVersion: strings.Replace(string(l.Bodies[0]), `"v":1`, `"v":2`, 1),
		Malformed:      strings.Replace(string(l.Bodies[0]), `"salt"`, `"salt`, 1),
	} {
		f := newLog(t)
		f.Append([]byte(body))
		_, _, err := f.inclusion(0, 1).Verify(f.Verifier)
		wrong(t, err, kind, 1)
		f = newLog(t)
		f.Append([]byte(`{"v":1}`))
		_, _, err = f.inclusion(0, 1).Verify(f.Verifier)
		wrong(t, err, Malformed, 1)
	}
	for _, bad := range []string{
		"", "{", "{}", `{"leaf":"eyJ2IjoxfQ==","leafIndex":1,"treeSize":1}`, `{"leaf":"eyJ2IjoxfQ==","leafIndex":0,"treeSize":1,"hashes":["x"]}`,
		`{"leaf":"eyJ2IjoxfQ==","leafIndex":0,"treeSize":9223372036854775807}`, strings.Repeat(" ", maxProof+1),
	} {
		_, err := ReadInclusion(strings.NewReader(bad))
		wrong(t, err, Malformed, 0)
	}
	var f *Failure
	if _, err := ReadInclusion(iotest.ErrReader(errors.New("broken"))); err == nil || errors.As(err, &f) {
		t.Errorf("what cannot be read: %v", err)
	}
}

func TestConsistencyIsVerified(t *testing.T) {
	l := newLog(t)
	l.fill(70, time.Minute)
	f := l.fork(33).grow(37)
	for from := int64(1); from < 70; from++ {
		given, err := l.consistency(t.Context(), from, 70)
		if err != nil {
			t.Fatal(err)
		}
		p, err := ReadConsistency(strings.NewReader(encoded(t, given)))
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Verify(*l.seen(from), *l.seen(70)); err != nil {
			t.Fatalf("from %d: %v", from, err)
		}
		forked, err := f.consistency(t.Context(), from, 70)
		if err != nil {
			t.Fatal(err)
		}
		if err := forked.Verify(*l.seen(from), *f.seen(70)); (err == nil) != (from <= 33) {
			t.Fatalf("from %d to a fork at 33: %v", from, err)
		} else if err != nil {
			wrong(t, err, Forked, 1)
		}
	}
	none := Consistency{}
	empty := transparency.Checkpoint{Origin: l.Verifier.Name()}
	wrong(t, none.Verify(*l.seen(40), *l.seen(30)), RolledBack, 31)
	wrong(t, none.Verify(*l.seen(60), *f.seen(60)), Forked, 1)
	wrong(t, none.Verify(*l.seen(60), *l.seen(70)), Malformed, 0)
	wrong(t, Consistency{From: 60, To: 70}.Verify(*l.seen(60), *l.seen(70)), Forked, 1)
	wrong(t, none.Verify(empty, transparency.Checkpoint{Size: 1 << 62}), Malformed, 0)
	if none.Verify(*l.seen(60), *l.seen(60)) != nil || none.Verify(empty, *l.seen(60)) != nil {
		t.Error("no proof is needed of the same tree, and from none")
	}
	for _, bad := range []string{"", `{"from":-1}`, `{"from":2,"to":1}`, `{"from":1,"to":9223372036854775807}`} {
		_, err := ReadConsistency(strings.NewReader(bad))
		wrong(t, err, Malformed, 0)
	}
}
