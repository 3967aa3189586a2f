package e2e_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/pgtest"
)

// pageBlock is what a page gives a shell.
var pageBlock = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// follower is a shell that follows a page.
type follower struct {
	t      *testing.T
	dir    string
	orders io.WriteCloser
	out    *bufio.Scanner
	said   []string
	blocks int
}

// follow starts a shell in an empty folder.
func follow(t *testing.T, dir string, env []string) *follower {
	t.Helper()
	repository, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	// What a block runs must not read the orders.
	cmd := exec.Command("bash", "-c", `exec 3<&0 </dev/null; set -euo pipefail; while read -r -u3 block; do . "$block"; echo "@@done"; done`)
	cmd.Dir = dir
	cmd.Env = append([]string{"PATH=" + filepath.Dir(binary) + ":" + os.Getenv("PATH"), "HOME=" + dir, "REPO=" + repository, "LC_ALL=C"}, env...)
	if d := coverDir(); d != "" {
		cmd.Env = append(cmd.Env, "GOCOVERDIR="+d)
	}
	orders, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	// A file, as what goes on in the background holds its output open.
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = write, write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = write.Close()
	f := &follower{t: t, dir: dir, orders: orders, out: bufio.NewScanner(read)}
	t.Cleanup(func() {
		_ = orders.Close()
		ends := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		ends.Stop()
		_ = read.Close()
	})
	hangs := time.AfterFunc(4*patience, func() {
		_ = cmd.Process.Kill()
		_ = read.SetReadDeadline(time.Now()) // what it started may hold its output open
	})
	t.Cleanup(func() { hangs.Stop() })
	return f
}

// do runs one block to its end.
func (f *follower) do(block string) {
	f.t.Helper()
	f.blocks++
	file := filepath.Join(f.t.TempDir(), "block.sh")
	if err := os.WriteFile(file, []byte(block), 0o600); err != nil {
		f.t.Fatal(err)
	}
	if _, err := fmt.Fprintln(f.orders, file); err != nil {
		f.t.Fatalf("the shell has ended before\n%s\n%s", block, strings.Join(f.said, "\n"))
	}
	from := len(f.said)
	for f.out.Scan() {
		if f.out.Text() == "@@done" {
			return
		}
		f.said = append(f.said, f.out.Text())
	}
	logs := ""
	for _, pattern := range []string{"*.log", "*.err", "run/*.log"} {
		files, _ := filepath.Glob(filepath.Join(f.dir, pattern))
		for _, one := range files {
			text, _ := os.ReadFile(one)
			logs += one + ":\n" + lastLines(string(text), 8) + "\n"
		}
	}
	f.t.Fatalf("this block of the page failed:\n%s\nit said:\n%s\n%s", block, strings.Join(f.said[from:], "\n"), logs)
}

// asPostgres gives the command that becomes the user which PostgreSQL runs as, and lets
// that user write into the folder; empty where the tests run as another than root.
func asPostgres(t *testing.T, dir string) string {
	t.Helper()
	user := (&pgtest.Server{Dir: filepath.Join(dir, "db")}).Command("psql").SysProcAttr.Credential
	if user == nil {
		return ""
	}
	if err := os.Chown(dir, int(user.Uid), int(user.Gid)); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("setpriv --reuid=%d --regid=%d --clear-groups", user.Uid, user.Gid)
}

// TestTheDeploymentGuideIsTrue follows docs/deployment.md line by line in an empty folder:
// one binary; then three nodes behind haproxy on PostgreSQL with a standby and Redis, whose
// upgrade no client notices (R13, R39, R42). With E2E_OLD_BINARY the upgrade is from that
// program, which make upgrade-test makes of the commit before.
func TestTheDeploymentGuideIsTrue(t *testing.T) {
	for _, program := range []string{"haproxy", "curl", "openssl", "redis-server"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("not run: %s is not installed here; docs/deployment.md is followed with it, and make test installs it where it may", program)
		}
	}
	page, err := os.ReadFile("../../docs/deployment.md")
	if err != nil {
		t.Fatal(err)
	}
	before, upgrade, found := strings.Cut(string(page), "\n## Upgrade\n")
	if !found {
		t.Fatal("the page has no section on upgrades")
	}
	// Not the test's own folder, which lies in one that another user may not enter.
	dir, err := os.MkdirTemp("", "agentidp-guide-") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	front := freePort(t)
	ports := func(n int) string {
		var all []string
		for range n {
			all = append(all, freePort(t))
		}
		return strings.Join(all, " ")
	}
	env := []string{
		"PORT=" + freePort(t), "DB1=" + freePort(t), "DB2=" + freePort(t), "REDIS=" + freePort(t), "FRONT=" + front, "NODES=" + ports(nodeCount), "NEXT=" + ports(nodeCount),
		"PG_AS=" + asPostgres(t, dir), "SHUTDOWN_DELAY=1s", "SETTLE=1", "RATE_LIMIT_CLIENT=1000000", "RATE_LIMIT_SOURCE=1000000",
	}
	if old := os.Getenv("E2E_OLD_BINARY"); old != "" {
		// It is the one on the path until the upgrade.
		env = append(env, "PATH="+filepath.Dir(old)+":"+os.Getenv("PATH"), "OLD="+old, "NEW="+binary)
	}
	stopsWhatRuns(t, dir)
	f := follow(t, dir, env)
	for _, block := range pageBlock.FindAllStringSubmatch(before, -1) {
		f.do(block[1])
	}

	balanced := newAPI("http://127.0.0.1:" + front)
	text, err := os.ReadFile(filepath.Join(dir, "secrets", "admin.json"))
	if err != nil {
		t.Fatal(err)
	}
	admin := readCredential(t, string(text))
	clients := &server{api: balanced}
	bearer := clients.token(t, admin, management)
	load := startTraffic(t, "guide", clients.register(t, bearer, "guide").Credential, bearer, func(int) api { return balanced })
	for _, block := range pageBlock.FindAllStringSubmatch(upgrade, -1) {
		f.do(block[1])
	}
	load.more(200)
	load.stop()
	if load.failures.Load() > 0 {
		t.Errorf("%d of %d requests failed during the upgrade", load.failures.Load(), load.answers.Load())
	}
	proves(t, clients, admin, load.sofar(), bearer)
	for _, said := range f.said {
		if strings.Contains(said, ": wrong: ") || strings.Contains(said, ": unchecked: ") {
			t.Errorf("the doctor says on the way: %s", said)
		}
	}
	t.Logf("%d blocks followed; %d requests answered during the upgrade, %d failed", f.blocks, load.answers.Load(), load.failures.Load())
}

// stopsWhatRuns ends, when the test ends, the servers that a page started in a folder.
func stopsWhatRuns(t *testing.T, dir string) {
	t.Helper()
	t.Cleanup(func() {
		for _, data := range []string{"db2", "db1"} {
			text, err := os.ReadFile(filepath.Join(dir, data, "postmaster.pid"))
			if err != nil {
				continue
			}
			var pid int
			if _, err := fmt.Sscan(string(text), &pid); err == nil && syscall.Kill(pid, syscall.SIGQUIT) == nil {
				waitFor(t, "the end of a database", func() bool { return ended(pid) })
			}
		}
	})
	endsLater(t, filepath.Join(dir, "run"))
	endsLater(t, dir)
}

// TestTheProxiesExamplesAreRead by the proxies themselves, where they are.
func TestTheProxiesExamplesAreRead(t *testing.T) {
	repository := filepath.Join("..", "..", "deploy")
	t.Run("haproxy", func(t *testing.T) {
		if _, err := exec.LookPath("haproxy"); err != nil {
			t.Skip("not run: haproxy is not installed here")
		}
		cmd := exec.Command("haproxy", "-c", "-f", filepath.Join(repository, "haproxy", "haproxy.cfg"))
		cmd.Env = append(os.Environ(), "LISTEN=127.0.0.1:8080")
		for n := range 6 {
			cmd.Env = append(cmd.Env, fmt.Sprintf("NODE%d=127.0.0.1:300%d", n+1, n+1))
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	t.Run("nginx", func(t *testing.T) {
		nginx, err := exec.LookPath("nginx")
		if err != nil {
			if nginx, err = exec.LookPath("/usr/sbin/nginx"); err != nil {
				t.Skip("not run: nginx is not installed here")
			}
		}
		dir := t.TempDir()
		example, err := os.ReadFile(filepath.Join(repository, "nginx", "agentidp.conf"))
		if err != nil {
			t.Fatal(err)
		}
		made := exec.Command("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=idp.example.com", "-keyout", dir+"/idp.example.com.key", "-out", dir+"/idp.example.com.pem")
		if out, err := made.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		text := strings.ReplaceAll(string(example), "/etc/nginx/tls/", dir+"/")
		whole := "pid " + dir + "/pid;\nerror_log " + dir + "/error.log;\nevents {}\nhttp {\n" + text + "}\n"
		file := filepath.Join(dir, "nginx.conf")
		if err := os.WriteFile(file, []byte(whole), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(nginx, "-t", "-q", "-p", dir, "-e", dir+"/error.log", "-c", file).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
}
