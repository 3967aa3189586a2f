package e2e_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"

	"git.sentryagent.ai/sentryagent-idp/internal/redistest"
)

// link is a connection between a node and Redis that can be cut: what is sent then
// neither arrives nor fails, as behind a broken switch.
type link struct {
	listener net.Listener
	target   string

	mu   sync.Mutex
	cut  bool
	open []net.Conn
}

func newLink(t *testing.T, target string) *link {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k := &link{listener: l, target: target}
	go k.accept()
	t.Cleanup(func() { _ = l.Close(); k.heal() })
	return k
}

func (k *link) accept() {
	for {
		near, err := k.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", k.target)
		if err != nil {
			_ = near.Close()
			continue
		}
		k.mu.Lock()
		k.open = append(k.open, near, far)
		k.mu.Unlock()
		go k.carry(near, far)
		go k.carry(far, near)
	}
}

// carry moves bytes while the link is whole, and swallows them while it is cut.
func (k *link) carry(to io.Writer, from io.Reader) {
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		k.mu.Lock()
		cut := k.cut
		k.mu.Unlock()
		if !cut {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
	}
}

func (k *link) sever() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cut = true
}

// heal ends what was open, as bytes were lost, and lets new connections through.
func (k *link) heal() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cut = false
	for _, c := range k.open {
		_ = c.Close()
	}
	k.open = nil
}

// redisStatus is what a node says of Redis.
func redisStatus(t *testing.T, s *server) (whole, redis string) {
	t.Helper()
	r, err := s.call(http.MethodGet, "/health", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Status string `json:"status"`
		Checks map[string]struct {
			Status string `json:"status"`
		} `json:"checks"`
	}
	if err := json.Unmarshal(r.body, &answer); err != nil {
		t.Fatal(err)
	}
	return answer.Status, answer.Checks["redis"].Status
}

// TestRevocationIsLinearizableWhateverBecomesOfRedis runs the revocation history
// over three nodes with Redis there, cut off from one node, and gone: it is for
// speed, and no answer rests on it (R7).
func TestRevocationIsLinearizableWhateverBecomesOfRedis(t *testing.T) {
	pg := startPostgres(t)
	rd := redistest.Start(t)
	cuttable := newLink(t, "127.0.0.1:"+strconv.Itoa(rd.Port))
	c := startCluster(t, postgresURL("postgres", pg), "REDIS_URL="+rd.URL())
	c.nodes[2].stop(t)
	c.nodes[2] = start(t, t.TempDir(), append(c.env, "REDIS_URL=redis://"+cuttable.listener.Addr().String())...)

	t.Run("there", func(t *testing.T) {
		for _, node := range c.nodes {
			if status, redis := redisStatus(t, node); status != "ok" || redis != "ok" {
				t.Errorf("health says %s, redis %s", status, redis)
			}
		}
		revocationRun(t, newFleet(t, "there", c.nodes, c.admin))
	})
	t.Run("cut off from one node", func(t *testing.T) {
		cuttable.sever()
		revocationRun(t, newFleet(t, "cut", c.nodes, c.admin))
		waitFor(t, "the node to say so", func() bool { status, _ := redisStatus(t, c.nodes[2]); return status == "degraded" })
	})
	t.Run("gone", func(t *testing.T) {
		rd.Kill()
		revocationRun(t, newFleet(t, "gone", c.nodes, c.admin))
		for _, node := range c.nodes {
			waitFor(t, "the nodes to say so", func() bool { status, _ := redisStatus(t, node); return status == "degraded" })
		}
	})
	t.Run("back", func(t *testing.T) {
		rd.Run(t)
		cuttable.heal()
		for _, node := range c.nodes {
			waitFor(t, "the nodes to find it again", func() bool { status, _ := redisStatus(t, node); return status == "ok" })
		}
	})
}
