package app_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"git.sentryagent.ai/sentryagent-idp/internal/app/apptest"
)

// TestTheGuideIsTrue runs every curl line of docs/api-guide.md, in order, in a
// shell as a reader would, and holds the statuses against what the guide says.
func TestTheGuideIsTrue(t *testing.T) {
	for _, program := range []string{"bash", "curl"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%s is missing: docs/api-guide.md is tested with it", program)
		}
	}
	guide, err := os.ReadFile("../../docs/api-guide.md")
	if err != nil {
		t.Fatal(err)
	}
	contract, err := apptest.LoadContract()
	if err != nil {
		t.Fatal(err)
	}
	s := apptest.Start(t, contract)
	statuses := filepath.Join(t.TempDir(), "statuses")
	var script strings.Builder
	script.WriteString("set -euo pipefail\n")
	script.WriteString(`curl() { local out; out=$(command curl -w '\n%{http_code}' "$@"); echo "${out##*$'\n'}" >> "$STATUSES"; echo "${out%$'\n'*}"; }` + "\n")
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(guide), -1) {
		script.WriteString(block[1])
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-c", script.String())
	cmd.Env = append(os.Environ(), "IDP="+s.URL, "CLIENT_ID="+s.AdminID, "CLIENT_SECRET="+s.AdminSecret, "STATUSES="+statuses)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("a line of the guide failed: %v\n%s", err, out)
	}
	recorded, err := os.ReadFile(statuses)
	if err != nil {
		t.Fatal(err)
	}
	var promised []string
	for _, line := range regexp.MustCompile(`(?m)^Answers (.*)\.$`).FindAllStringSubmatch(string(guide), -1) {
		promised = append(promised, strings.Split(line[1], ", ")...)
	}
	if got := strings.Fields(string(recorded)); !slices.Equal(got, promised) {
		t.Errorf("the lines answered %v, the guide says %v\n%s", got, promised, out)
	}
	for _, want := range []string{`"active":true`, `"action":"agent.suspended"`, `"version":"v1.1.0"`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the output lacks %s", want)
		}
	}
	if n := len(regexp.MustCompile(`(?m)^## \d+\. `).FindAllString(string(guide), -1)); n != 10 {
		t.Errorf("the guide tells of %d things, and is called the ten things people do", n)
	}
}
