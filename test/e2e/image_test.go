package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

// engine builds and runs images in a store of its own, without a daemon.
type engine struct {
	t     *testing.T
	dir   string
	store []string
}

// containersConf is the least that a container engine asks of a machine that is a container
// itself.
const containersConf = `
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
`

// newEngine skips where there is none.
func newEngine(t *testing.T) *engine {
	t.Helper()
	asked(t)
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		t.Skip("not run: containers are run here by root on Linux alone")
	}
	for _, program := range []string{"buildah", "podman", "runc", "busybox"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("not run: %s is not installed here (Debian: apt-get install buildah podman runc busybox-static)", program)
		}
	}
	// Not the test's own folder: what an engine leaves cannot always be removed.
	dir, err := os.MkdirTemp("", "agentidp-image-") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	keep(t, dir, "containers.conf", containersConf)
	keep(t, dir, "policy.json", `{"default":[{"type":"insecureAcceptAnything"}]}`)
	return &engine{t, dir, []string{"--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"), "--storage-driver", "vfs"}}
}

// do runs a command of the engine and gives what it printed; it may fail where may is true.
func (e *engine) do(may bool, program string, args ...string) string {
	e.t.Helper()
	cmd := exec.Command(program, append(append([]string{}, e.store...), args...)...)
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "CONTAINERS_CONF="+filepath.Join(e.dir, "containers.conf"))
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil && !may {
		e.t.Fatalf("%s %s: %v\n%s%s", program, strings.Join(args, " "), err, out, complaints.String())
	}
	return strings.TrimSpace(string(out))
}

// goValue asks the toolchain where it keeps something.
func goValue(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// base makes an image to build in, as none can be pulled everywhere: a shell, and the
// toolchain of this machine.
func (e *engine) base() (mounts []string) {
	e.t.Helper()
	root := filepath.Join(e.dir, "base")
	for _, folder := range []string{"bin", "tmp", "root"} {
		if err := os.MkdirAll(filepath.Join(root, folder), 0o755); err != nil {
			e.t.Fatal(err)
		}
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		e.t.Fatal(err)
	}
	program, err := os.ReadFile(busybox)
	if err != nil {
		e.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "bin", "busybox"), program, 0o755); err != nil {
		e.t.Fatal(err)
	}
	for _, name := range []string{"sh", "mkdir", "chmod", "printf", "cp"} {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", name)); err != nil {
			e.t.Fatal(err)
		}
	}
	archive := filepath.Join(e.dir, "base.tar")
	if out, err := exec.Command("tar", "-C", root, "-cf", archive, ".").CombinedOutput(); err != nil {
		e.t.Fatalf("%v\n%s", err, out)
	}
	e.do(false, "podman", "import", "-c", "ENV PATH=/usr/local/go/bin:/bin", "-c", "ENV GOPROXY=off", "-c", "ENV HOME=/root", archive, "localhost/build-base")
	return []string{
		"-v", goValue(e.t, "GOROOT") + ":/usr/local/go:ro",
		"-v", goValue(e.t, "GOMODCACHE") + ":/root/go/pkg/mod", "-v", goValue(e.t, "GOCACHE") + ":/root/.cache/go-build",
	}
}

// build builds deploy/Dockerfile on the local base, and gives the digests of the image's
// layers: all there is in it. What this engine writes about itself differs each time.
func (e *engine) build(mounts []string, name string) string {
	e.t.Helper()
	args := append([]string{
		"bud", "--isolation", "chroot", "--format", "docker", "--timestamp", "1700000000", "--no-cache", "--quiet",
		"--signature-policy", filepath.Join(e.dir, "policy.json"), "--pull-never",
		"--build-arg", "BUILD_IMAGE=localhost/build-base", "--build-arg", "RUNTIME_IMAGE=scratch", "--build-arg", "VERSION=v0-test",
		"--build-arg", "REVISION=0123456", "--build-arg", "TARGETARCH=" + runtime.GOARCH, "-f", "deploy/Dockerfile", "-t", name,
	}, mounts...)
	e.do(false, "buildah", append(args, ".")...)
	return e.do(false, "podman", "inspect", name, "--format", "{{json .RootFS.Layers}}")
}

// TestTheImage builds the image twice from local bases, runs it as its own user on a
// read-only root without a single capability, has it do the main job, and stops it under
// load (R9, R42).
func TestTheImage(t *testing.T) {
	e := newEngine(t)
	mounts := e.base()
	const image = "localhost/agentidp"
	if first, again := e.build(mounts, image), e.build(mounts, image+"-again"); first != again || !strings.Contains(first, "sha256:") {
		t.Errorf("two builds of one source give the layers %s and %s", first, again)
	}
	var size int64
	if _, err := fmt.Sscan(e.do(false, "podman", "inspect", image, "--format", "{{.Size}}"), &size); err != nil || size > 40<<20 {
		t.Errorf("the image has %d bytes (%v), want at most 40 MB", size, err)
	}
	contains(t, e.do(false, "podman", "inspect", image, "--format", "{{.User}} {{.Config.Entrypoint}} {{json .HealthCheck}} {{json .Labels}}"),
		"65532:65532 [/agentidp] ", `"/agentidp","health"`, `"org.opencontainers.image.version":"v0-test"`, `"org.opencontainers.image.revision":"0123456"`)

	port, name := freePort(t), "agentidp-"+freePort(t)
	e.do(false, "podman", "run", "-d", "--name", name, "--network", "host", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
		"--signature-policy", filepath.Join(e.dir, "policy.json"), "-e", "PORT="+port, "-e", "HOST=127.0.0.1", "-e", "JWT_SECRET="+hexSecret("0f1e2d3c"),
		"-e", "RATE_LIMIT=off", "-e", "SECRET_HASHER=hmac", "-e", "SHUTDOWN_DELAY=3s", image)
	t.Cleanup(func() { e.do(true, "podman", "rm", "-f", "-t", "0", name) })
	s := at(t, port)
	waitFor(t, "the container to serve", func() bool {
		r, err := s.call(http.MethodGet, "/health", "", nil)
		return err == nil && r.status == http.StatusOK
	})
	contains(t, e.do(false, "podman", "exec", name, "/agentidp", "health"), `"version":"v0-test"`)
	if bom := e.do(false, "podman", "exec", name, "/agentidp", "version", "--sbom"); !json.Valid([]byte(bom)) || !strings.Contains(bom, "CycloneDX") {
		t.Errorf("the bill of materials is %.100q", bom)
	}
	pid := e.do(false, "podman", "inspect", name, "--format", "{{.State.Pid}}")
	status, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil || !regexp.MustCompile(`(?m)^Uid:\s65532\s`).Match(status) || !regexp.MustCompile(`(?m)^CapEff:\s0+$`).Match(status) {
		t.Errorf("the process runs as (%v)\n%s", err, status)
	}

	logged := exec.Command("podman", append(append([]string{}, e.store...), "logs", name)...)
	logged.Env = append(os.Environ(), "CONTAINERS_CONF="+filepath.Join(e.dir, "containers.conf"))
	printed, err := logged.CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	admin := readCredential(t, string(printed))
	bearer := s.token(t, admin, management)
	client := s.register(t, bearer, "contained").Credential
	load := startTraffic(t, "image", client, bearer, func(int) api { return s.api })
	stopped := make(chan string, 1)
	go func() { stopped <- e.do(true, "podman", "stop", "-t", "30", name) }()
	// As a balancer does: while it is ready it gets requests, and none after.
	waitFor(t, "the container to say that it leaves", func() bool {
		r, err := s.call(http.MethodGet, "/health/ready", "", nil)
		return err == nil && r.status == http.StatusServiceUnavailable
	})
	load.stop()
	<-stopped
	if code := e.do(false, "podman", "inspect", name, "--format", "{{.State.ExitCode}}"); code != "0" {
		t.Errorf("the container ended with %s", code)
	}
	t.Logf("%d bytes; %d requests answered until it left, %d broken", size, load.answers.Load(), load.failures.Load())
}

// TestTheComposeFileIsRead by Compose itself, where it is, and refused without JWT_SECRET.
// It is not started: the images of PostgreSQL and Redis cannot be had everywhere.
func TestTheComposeFileIsRead(t *testing.T) {
	compose := []string{"docker", "compose"}
	if exec.Command("docker", "compose", "version").Run() != nil {
		if _, err := exec.LookPath("docker-compose"); err != nil {
			t.Skip("not run: neither docker compose nor docker-compose is installed here")
		}
		compose = []string{"docker-compose"}
	}
	repository, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, file := range []string{"docker-compose.yml", "deploy/secrets.sh", "deploy/postgres/role.sh", "deploy/Dockerfile"} {
		text, err := os.ReadFile(filepath.Join(repository, file))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o700); err != nil {
			t.Fatal(err)
		}
		keep(t, dir, file, string(text))
	}
	read := func() (string, error) {
		cmd := exec.Command(compose[0], append(compose[1:], "config")...)
		cmd.Dir = dir
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := read(); err == nil || !strings.Contains(out, "JWT_SECRET") {
		t.Errorf("without JWT_SECRET: %v\n%s", err, out)
	}
	for range 2 { // what is there stays
		made := exec.Command("bash", "deploy/secrets.sh")
		made.Dir = dir
		if out, err := made.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	env := secretIn(t, filepath.Join(dir, ".env"))
	if strings.Count(env, "JWT_SECRET=") != 1 {
		t.Errorf(".env holds %d root secrets", strings.Count(env, "JWT_SECRET="))
	}
	out, err := read()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	contains(t, out, "postgres", "redis", "migrate", "service_healthy", "read_only: true", strings.TrimPrefix(env, "JWT_SECRET="))
}
