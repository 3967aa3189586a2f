// Package floors_test holds the house to its floors (docs/architecture.md): arrows
// run downwards only, edges never import each other, and every package says what
// it is.
package floors_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "git.sentryagent.ai/sentryagent-idp/"

// floor gives the height of a package; packages of one floor may import each
// other except where they are edges.
func floor(path string) (height int, edge bool) {
	switch first, _, _ := strings.Cut(strings.TrimPrefix(path, "internal/"), "/"); {
	case strings.HasPrefix(path, "cmd/"):
		return 6, false
	case path == "internal/app/apptest" || path == "internal/pgtest" || path == "internal/redistest" || path == "internal/porttest": // for tests alone
		return 6, false
	case path == "internal/app" || path == "internal/config" || path == "internal/doctor":
		return 5, false
	case slices.Contains([]string{"fault", "scope", "page", "secret", "printable"}, first):
		return 0, false
	case slices.Contains([]string{"organization", "agent", "credential", "policy", "keys", "token", "audit", "idempotency", "transparency", "revocation", "leak"}, first):
		return 1, false
	case slices.Contains([]string{"request", "wire", "verify", "outbound", "export"}, first):
		return 2, false
	case path == "docs":
		return 2, false
	case slices.Contains([]string{"oauth", "api", "apidocs", "httpd", "store", "limit", "redis", "witness", "stream"}, first):
		return 3, true
	}
	return -1, false
}

// sources gives the Go files of the product by package path.
func sources(t *testing.T) map[string][]string {
	t.Helper()
	files := map[string][]string{}
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && path != "." {
			if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil || strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata" || entry.Name() == "node_modules" {
				return filepath.SkipDir // a module of its own, or no code
			}
		}
		if strings.HasSuffix(path, ".go") && filepath.Dir(path) != "." {
			files[filepath.ToSlash(filepath.Dir(path))] = append(files[filepath.ToSlash(filepath.Dir(path))], path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func parse(t *testing.T, path string) *ast.File {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func TestArrowsRunDownwards(t *testing.T) {
	for pkg, files := range sources(t) {
		height, edge := floor(pkg)
		if height < 0 {
			t.Errorf("%s has no floor: say in this test and in docs/architecture.md where it belongs", pkg)
			continue
		}
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			for _, spec := range parse(t, path).Imports {
				imported, err := strconv.Unquote(spec.Path.Value)
				if err != nil || !strings.HasPrefix(imported, module) {
					continue
				}
				to := strings.TrimPrefix(imported, module)
				below, otherEdge := floor(to)
				if below > height {
					t.Errorf("%s imports %s, which is above it", path, to)
				}
				if edge && otherEdge && family(pkg) != family(to) {
					t.Errorf("%s imports %s: edges never import each other", path, to)
				}
			}
		}
	}
}

// family is the edge a package belongs to: store, for store/sqlite.
func family(pkg string) string {
	parts := strings.Split(pkg, "/")
	return parts[min(1, len(parts)-1)]
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	for pkg, files := range sources(t) {
		documented := slices.ContainsFunc(files, func(path string) bool {
			doc := parse(t, path).Doc
			return (strings.HasSuffix(path, "doc.go") || pkg == "docs") && doc != nil && len(doc.Text()) > 40
		})
		if !documented {
			t.Errorf("%s has no doc.go that says what it is", pkg)
		}
	}
}

// TestNoHiddenState allows package variables for sentinel errors and embedded
// files alone, and no init.
func TestNoHiddenState(t *testing.T) {
	for _, files := range sources(t) {
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			for _, decl := range parse(t, path).Decls {
				switch d := decl.(type) {
				case *ast.FuncDecl:
					if d.Name.Name == "init" && d.Recv == nil {
						t.Errorf("%s has an init function", path)
					}
				case *ast.GenDecl:
					if d.Tok == token.VAR && !embeds(d) {
						checkVars(t, path, d)
					}
				}
			}
		}
	}
}

func embeds(d *ast.GenDecl) bool {
	return d.Doc != nil && slices.ContainsFunc(d.Doc.List, func(c *ast.Comment) bool { return strings.HasPrefix(c.Text, "//go:embed") })
}

func checkVars(t *testing.T, path string, d *ast.GenDecl) {
	t.Helper()
	for _, spec := range d.Specs {
		for _, name := range spec.(*ast.ValueSpec).Names {
			if !strings.HasPrefix(name.Name, "Err") && !strings.HasPrefix(name.Name, "err") && name.Name != "_" {
				t.Errorf("%s has the package variable %s", path, name.Name)
			}
		}
	}
}

// TestFilesStayReadable in one sitting.
func TestFilesStayReadable(t *testing.T) {
	const most = 400
	for _, files := range sources(t) {
		for _, path := range files {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(text), "\n"); n > most {
				t.Errorf("%s has %d lines, more than %d: is it still one idea?", path, n, most)
			}
		}
	}
}

// TestTheFloorsAreWatched breaks the rules on paper, so that this file is known
// to see it.
func TestTheFloorsAreWatched(t *testing.T) {
	domain, _ := floor("internal/agent")
	edge, isEdge := floor("internal/store/sqlite")
	if domain >= edge || !isEdge {
		t.Error("the store is not seen as an edge above the domain")
	}
	if family("internal/store/sqlite") != "store" || family("internal/api") != "api" {
		t.Error("families are not told apart")
	}
	if unknown, _ := floor("internal/util"); unknown >= 0 {
		t.Error("a package nobody placed has a floor")
	}
}
