package floors_test

import (
	"encoding/json"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documents gives the pages of the repository by path.
func documents(t *testing.T) map[string]string {
	t.Helper()
	pages := map[string]string{}
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && path != "." && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "node_modules" || entry.Name() == "testdata") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, ".md") {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			pages[filepath.ToSlash(path)] = string(text)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return pages
}

// block is a fenced part of a page.
var block = regexp.MustCompile("(?ms)^ *```([a-z0-9]*)\n(.*?)^ *```$")

// prose is a page without its blocks and without code in its lines.
func prose(page string) string {
	return regexp.MustCompile("`[^`\n]*`").ReplaceAllString(block.ReplaceAllString(page, ""), "")
}

// anchors are the names by which the headings of a page are linked to.
func anchors(page string) []string {
	var all []string
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(block.ReplaceAllString(page, ""), -1) {
		name := strings.ToLower(regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`).ReplaceAllString(heading[1], "$1"))
		name = regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(name, "")
		all = append(all, strings.ReplaceAll(name, " ", "-"))
	}
	return all
}

// TestLinksLeadSomewhere on every page: files and headings are there. What is on other
// machines is looked at for its form alone.
func TestLinksLeadSomewhere(t *testing.T) {
	pages := documents(t)
	links := 0
	for path, page := range pages {
		for _, link := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(prose(page), -1) {
			links++
			target, err := url.Parse(link[1])
			if err != nil || target.Scheme != "" && (target.Scheme != "https" && target.Scheme != "mailto" || target.Scheme == "https" && target.Host == "") {
				t.Errorf("%s links to %s, which is no link (%v)", path, link[1], err)
				continue
			}
			if target.Scheme != "" {
				continue
			}
			file := path
			if target.Path != "" {
				file = filepath.ToSlash(filepath.Join(filepath.Dir(path), target.Path))
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s links to %s, which is not there", path, link[1])
			} else if target.Fragment != "" && !slices.Contains(anchors(pages[file]), target.Fragment) {
				t.Errorf("%s links to %s; the page has no such heading", path, link[1])
			}
		}
	}
	if links < 100 {
		t.Errorf("only %d links were found: are they still read?", links)
	}
}

// tests gives the names of all tests there are, also those of the other modules.
func tests(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, name := range declared.FindAllStringSubmatch(string(text), -1) {
			names[name[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestEveryThreatNamesItsTests reads the threat model of SECURITY.md, and every other page
// that says which test holds what.
func TestEveryThreatNamesItsTests(t *testing.T) {
	known, pages := tests(t), documents(t)
	for path, page := range pages {
		for _, name := range regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w+)`").FindAllStringSubmatch(page, -1) {
			if !known[name[1]] {
				t.Errorf("%s names %s, and there is no such test", path, name[1])
			}
		}
	}
	threats := 0
	_, model, _ := strings.Cut(pages["SECURITY.md"], "\n## Threat model\n")
	for line := range strings.Lines(model) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 || strings.Contains(line, "---") || strings.TrimSpace(cells[1]) == "Threat" {
			continue
		}
		threats++
		if !strings.Contains(cells[3], "`Test") {
			t.Errorf("no test holds the threat %q", strings.TrimSpace(cells[1]))
		}
	}
	for _, letter := range []string{"Spoofing", "Tampering", "Repudiation", "Information disclosure", "Denial of service", "Elevation of privilege"} {
		if !strings.Contains(model, "### "+letter) {
			t.Errorf("the threat model has no %s", letter)
		}
	}
	if threats < 25 {
		t.Errorf("the threat model has %d threats: are they still read?", threats)
	}
}

// followed says which test runs the blocks of a page that are marked sh.
func followed() map[string]string {
	return map[string]string{
		"docs/api-guide.md":  "TestTheGuideIsTrue",
		"docs/deployment.md": "TestTheDeploymentGuideIsTrue",
	}
}

// TestBlocksOfCodeAreRight on every page: those marked sh are run by a test, other commands
// are at least commands, of programs and scripts that know the words, and JSON is JSON.
func TestBlocksOfCodeAreRight(t *testing.T) {
	known := tests(t)
	for path, page := range documents(t) {
		for _, b := range block.FindAllStringSubmatch(page, -1) {
			language, text := b[1], b[2]
			switch language {
			case "sh":
				if by := followed()[path]; by == "" || !known[by] {
					t.Errorf("%s has a block marked sh, and no test runs the blocks of this page", path)
				}
			case "json":
				if !json.Valid([]byte(text)) {
					t.Errorf("%s: this is no JSON:\n%s", path, text)
				}
			case "", "text":
				if isShell(text) {
					checkShell(t, path, text)
				}
			}
		}
	}
}

// isShell tells commands from output and drawings.
func isShell(text string) bool {
	return regexp.MustCompile(`^\s*(#!|export |[A-Z][A-Z_]+=|agentidp |go |make\b|bin/|docs/runbooks/|deploy/|docker )`).MatchString(text)
}

func checkShell(t *testing.T, path, text string) {
	t.Helper()
	// What the reader fills in is written … .
	cmd := exec.Command("bash", "-n", "-c", strings.ReplaceAll(text, "…", "x"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: the shell does not read this (%v):\n%s\n%s", path, err, text, out)
	}
	for _, call := range regexp.MustCompile(`(?m)(docs/runbooks/[\w-]+\.sh) ([\w-]+)`).FindAllStringSubmatch(text, -1) {
		script, err := os.ReadFile(call[1])
		if err != nil || !regexp.MustCompile(`(?m)^#   [\w-]+\.sh `+regexp.QuoteMeta(call[2])+` `).Match(script) {
			t.Errorf("%s calls %s %s, which the script does not tell of (%v)", path, call[1], call[2], err)
		}
	}
	for _, call := range regexp.MustCompile(`(?m)(?:^|\s|bin/)agentidp ([a-z]+)`).FindAllStringSubmatch(text, -1) {
		if !commands(t)[call[1]] {
			t.Errorf("%s calls agentidp %s, and there is no such command", path, call[1])
		}
	}
}

// commands are the words that agentidp knows.
func commands(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob("cmd/agentidp/*.go")
	if err != nil {
		t.Fatal(err)
	}
	words := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, use := range regexp.MustCompile(`Use:\s+"(\w+)`).FindAllStringSubmatch(string(text), -1) {
			words[use[1]] = true
		}
	}
	return words
}
