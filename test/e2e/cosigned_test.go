package e2e_test

import (
	"crypto/ed25519"
	"encoding/base64"
	order "encoding/binary"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// cosigner verifies what a witness signs: C2SP tlog-cosignature, by hand.
type cosigner struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

// Name is that of the witness.
func (c cosigner) Name() string { return c.name }

// KeyHash is that of its key.
func (c cosigner) KeyHash() uint32 { return c.hash }

// Verify looks at eight bytes of time and the signature.
func (c cosigner) Verify(text, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	message := fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", order.BigEndian.Uint64(sig), text)
	return ed25519.Verify(c.key, message, sig[8:])
}

// cosignerOf reads the verifier key that a witness printed.
func cosignerOf(t *testing.T, w *server) (key string, c cosigner) {
	t.Helper()
	line := verifierLine.FindStringSubmatch(w.stderr.String())
	material, err := base64.StdEncoding.DecodeString(line[3])
	if err != nil || len(material) != 1+ed25519.PublicKeySize {
		t.Fatalf("the verifier key %q: %v", line[0], err)
	}
	return strings.Join(line[1:], "+"), cosigner{line[1], order.BigEndian.Uint32(keyID(line[1], material)), material[1:]}
}

// TestAWitnessHoldsBackWhatItDidNotSign runs the server with a witness beside it. While
// the witness is dead nothing is published, and tokens go on; a database that was
// restored it never signs again (R4).
func TestAWitnessHoldsBackWhatItDidNotSign(t *testing.T) {
	dir, older, watching := t.TempDir(), t.TempDir(), t.TempDir()
	s := start(t, dir, auditEnv...)
	admin := s.first(t)
	logKey, verifier := s.logKey(t)
	s.covers(t, embedded(t, filepath.Join(dir, "agentidp.db")), verifier)
	s.stop(t)
	copyFile(t, filepath.Join(dir, "jwt-secret"), filepath.Join(older, "jwt-secret"))

	port := freePort(t)
	witness := func() *server {
		return startWitness(t, watching, "--name", "w.example/1", "--log", logKey, "--listen", "127.0.0.1:"+port)
	}
	w := witness()
	key, by := cosignerOf(t, w)
	env := append([]string{"AUDIT_WITNESSES=" + key + " http://127.0.0.1:" + port}, auditEnv...)
	s = start(t, dir, env...)
	db := embedded(t, filepath.Join(dir, "agentidp.db"))
	s.issue(t, admin, 10)
	s.covers(t, db, verifier, by)
	verify := []string{"audit", "verify", "--url", s.base, "--all", "--key", logKey, "--state", filepath.Join(watching, "remembered")}
	right(t, exits(t, 0, auditor(admin), nil, verify...))
	mustRun(t, dir, auditEnv, "backup", "--to", filepath.Join(older, "agentidp.db"))

	w.kill(t)
	s.issue(t, admin, 1)
	waitFor(t, "the server to miss the witness", func() bool { return strings.Contains(s.stdout.String(), "a checkpoint is not published") })
	before, ok := s.published(t, verifier, by)
	s.issue(t, admin, 30)
	waitFor(t, "a tree that has grown", func() bool { return db.grown() >= before+30 })
	if after, still := s.published(t, verifier, by); !ok || !still || after != before {
		t.Errorf("published were %d leaves, and without the witness %d", before, after)
	}
	s.mustCall(t, http.MethodGet, "/health/ready", "", nil, http.StatusOK)
	w = witness()
	size := s.covers(t, db, verifier, by)
	if size < before+30 {
		t.Errorf("published are %d leaves", size)
	}
	right(t, exits(t, 0, auditor(admin), nil, verify...))
	if n := strings.Count(s.stdout.String(), "a checkpoint is not published"); n != 1 {
		t.Errorf("that the witness is away is logged %d times", n)
	}
	contains(t, s.stdout.String(), "checkpoints are published again")
	s.stop(t)

	neverSigned(t, older, env, admin, size)
	if !strings.Contains(w.stdout.String(), `"status":409`) && !strings.Contains(w.stdout.String(), `"status":422`) {
		t.Errorf("the witness says:\n%s", w.stdout.String())
	}
}

// neverSigned starts the server on an older copy of its database and lets it grow past
// what the witness has signed.
func neverSigned(t *testing.T, dir string, env []string, admin credential, signed int64) {
	t.Helper()
	s := start(t, dir, env...)
	db := embedded(t, filepath.Join(dir, "agentidp.db"))
	was := db.number("SELECT published_size FROM audit_tree")
	s.issue(t, admin, 1)
	waitFor(t, "the witness to see a cut", func() bool { return strings.Contains(s.stdout.String(), "the log was cut") })
	for db.head() <= signed {
		s.issue(t, admin, 10)
	}
	waitFor(t, "the witness to see a fork", func() bool { return strings.Contains(s.stdout.String(), "the log was forked") })
	if now := db.number("SELECT published_size FROM audit_tree"); now != was {
		t.Errorf("the restored log had published %d leaves, and now %d", was, now)
	}
	s.token(t, admin, management)
}
