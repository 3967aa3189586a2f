package e2e_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// asked skips what takes minutes on an empty cache, unless it is asked for.
func asked(t *testing.T) {
	t.Helper()
	if os.Getenv("E2E_IMAGE") == "" {
		t.Skip("not run: make image-test builds the released program twice, and the image, and runs it")
	}
}

// buildAsReleased builds the program in a folder as deploy/Dockerfile does.
func buildAsReleased(t *testing.T, source string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "agentidp")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w -buildid=", "-o", out, "./cmd/agentidp")
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	program, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// TestTheSameSourceGivesTheSameBinary wherever it lies, byte for byte (R9).
func TestTheSameSourceGivesTheSameBinary(t *testing.T) {
	asked(t)
	here, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	there := filepath.Join(t.TempDir(), "another", "place")
	for _, folder := range []string{"cmd", "internal", "docs"} {
		if err := os.CopyFS(filepath.Join(there, folder), os.DirFS(filepath.Join(here, folder))); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join(here, file))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(there, file), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	first, second := buildAsReleased(t, here), buildAsReleased(t, there)
	if !bytes.Equal(first, second) {
		t.Errorf("two builds of one source differ: %x and %x", sha256.Sum256(first), sha256.Sum256(second))
	}
	const most = 40 << 20 // the image holds little else
	if len(first) > most {
		t.Errorf("the program has %d bytes, more than %d", len(first), most)
	}
	if bytes.Contains(first, []byte(here)) {
		t.Error("the program tells in which folder it was built")
	}
}

// TestTheBillOfMaterialsNamesEveryModule that the program was built of (R9, R40).
func TestTheBillOfMaterialsNamesEveryModule(t *testing.T) {
	var bom struct {
		BOMFormat   string `json:"bomFormat"`
		SpecVersion string `json:"specVersion"`
		Components  []struct {
			Name, Version, PURL string
			Ref                 string `json:"bom-ref"`
		} `json:"components"`
		Dependencies []struct {
			Ref       string
			DependsOn []string `json:"dependsOn"`
		} `json:"dependencies"`
	}
	text := mustRun(t, t.TempDir(), nil, "version", "--sbom").stdout
	if err := json.Unmarshal([]byte(text), &bom); err != nil || bom.BOMFormat != "CycloneDX" || bom.SpecVersion != "1.6" {
		t.Fatalf("%v\n%s", err, text)
	}
	stated := map[string]string{}
	for _, c := range bom.Components {
		if c.PURL != c.Ref || !strings.HasPrefix(c.PURL, "pkg:golang/"+c.Name+"@") {
			t.Errorf("a component is %+v", c)
		}
		stated[c.Name] = c.Version
	}
	if len(bom.Dependencies) != 1 || len(bom.Dependencies[0].DependsOn) != len(bom.Components) {
		t.Errorf("the dependencies are %+v", bom.Dependencies)
	}
	// Another reading of the same program.
	listed, err := exec.Command("go", "version", "-m", binary).Output()
	if err != nil {
		t.Fatal(err)
	}
	modules := regexp.MustCompile(`(?m)^\tdep\t(\S+)\t(\S+)`).FindAllStringSubmatch(string(listed), -1)
	for _, m := range modules {
		if stated[m[1]] != m[2] {
			t.Errorf("the bill has %s %q, the program %s", m[1], stated[m[1]], m[2])
		}
	}
	if len(modules) == 0 || len(modules)+1 != len(stated) { // and the standard library
		t.Errorf("the bill names %d modules, the program has %d", len(stated), len(modules))
	}
}
