package apptest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A script is a list of exchanges, separated by lines of three dashes:
//
//	# What is shown, for readers.
//	POST /agents
//	Authorization: Bearer $admin
//
//	{"email": "reader@sentryagent.ai"}
//
//	HTTP 400
//	Content-Type: application/json
//	{"code": "VALIDATION_ERROR"}
//	save name path.in.the.body
//
// A body that begins with a brace is sent as JSON unless a header says otherwise,
// any other as a form. Of the answer, the headers named must have the value given
// (a lone * stands for any, - for none), and the JSON must hold what is given:
// lists whole, objects in part, "*" for any value; an answer of lines is a list. $name is a saved value;
// $(…) calls one of the functions in generate.

// Scripts runs every script of the folder, each on a server of its own.
func Scripts(t *testing.T, contract *Contract, folder string, settings ...string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.http"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts in %s: %v", folder, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".http"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file) //nolint:gosec // a test file
			if err != nil {
				t.Fatal(err)
			}
			s := Start(t, contract, settings...)
			run := &script{t: t, server: s, vars: map[string]string{
				"admin": s.Admin(), "adminId": s.AdminID, "adminSecret": s.AdminSecret, "url": s.URL,
			}}
			line := 1
			for block := range strings.SplitSeq(string(text), "\n---\n") {
				run.where = fmt.Sprintf("%s:%d", filepath.Base(file), line)
				run.exchange(block)
				line += strings.Count(block, "\n") + 2
			}
		})
	}
}

type script struct {
	t      *testing.T
	server *Server
	vars   map[string]string
	where  string
}

// exchange runs one block.
func (s *script) exchange(block string) {
	s.t.Helper()
	var lines []string
	for line := range strings.SplitSeq(block, "\n") {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	for len(lines) > 0 && strings.TrimSpace(lines[0]) == "" {
		lines = lines[1:]
	}
	answerAt := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "HTTP ") })
	if len(lines) == 0 {
		return
	}
	if answerAt < 1 {
		s.t.Fatalf("%s: there is no answer to compare with", s.where)
	}
	got := s.server.Do(s.request(lines[:answerAt]))
	s.compare(got, lines[answerAt:])
}

func (s *script) request(lines []string) *http.Request {
	s.t.Helper()
	method, path, _ := strings.Cut(s.expand(lines[0]), " ")
	headers, body := lines[1:], ""
	if blank := slices.IndexFunc(headers, func(l string) bool { return l == "" }); blank >= 0 {
		body = strings.TrimSpace(s.expand(strings.Join(headers[blank+1:], "\n")))
		headers = headers[:blank]
	}
	r := s.server.request(method, path, body)
	for _, h := range headers {
		name, value, _ := strings.Cut(s.expand(h), ": ")
		r.Header.Add(name, value)
	}
	if body != "" && r.Header.Get("Content-Type") == "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if strings.HasPrefix(body, "{") || strings.HasPrefix(body, "[") {
			r.Header.Set("Content-Type", "application/json")
		}
	}
	return r
}

func (s *script) compare(got Answer, lines []string) {
	s.t.Helper()
	fail := func(format string, args ...any) {
		s.t.Errorf("%s: "+format+"\nthe answer: %d %.2000s", append(append([]any{s.where}, args...), got.Status, got.Body)...)
	}
	want := strings.TrimPrefix(lines[0], "HTTP ")
	if strconv.Itoa(got.Status) != want {
		fail("the status is %d, want %s", got.Status, want)
		return
	}
	var expected strings.Builder
	for _, line := range lines[1:] {
		name, value, header := strings.Cut(line, ": ")
		switch {
		case expected.Len() == 0 && header && !strings.HasPrefix(line, "{") && !strings.HasPrefix(line, "["):
			s.header(got, name, s.expand(value), fail)
		case strings.HasPrefix(line, "save "):
			s.save(got, line)
		default:
			expected.WriteString(line)
		}
	}
	if text := strings.TrimSpace(s.expand(expected.String())); text != "" {
		var wanted, have any
		if err := json.Unmarshal([]byte(text), &wanted); err != nil {
			s.t.Fatalf("%s: the expected JSON is not valid: %v: %s", s.where, err, text)
		}
		if err := json.Unmarshal(got.JSONBody(), &have); err != nil {
			fail("the body is not JSON")
			return
		}
		if difference := differ("", wanted, have); difference != "" {
			fail("%s", difference)
		}
	}
}

func (s *script) header(got Answer, name, want string, fail func(string, ...any)) {
	have := got.Header.Get(name)
	switch {
	case want == "*" && have == "":
		fail("there is no header %s", name)
	case want == "-" && have != "":
		fail("there is a header %s: %s", name, have)
	case want != "*" && want != "-" && have != want:
		fail("the header %s is %q, want %q", name, have, want)
	}
}

func (s *script) save(got Answer, line string) {
	s.t.Helper()
	fields := strings.Fields(line)
	if len(fields) != 3 {
		s.t.Fatalf("%s: save takes a name and a path: %s", s.where, line)
	}
	if name, ok := strings.CutPrefix(fields[2], "header."); ok {
		s.vars[fields[1]] = got.Header.Get(name)
		return
	}
	var value any
	if err := json.Unmarshal(got.JSONBody(), &value); err != nil {
		s.t.Fatalf("%s: the body is not JSON: %s", s.where, got.Body)
	}
	for part := range strings.SplitSeq(fields[2], ".") {
		switch v := value.(type) {
		case map[string]any:
			value = v[part]
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i >= len(v) {
				s.t.Fatalf("%s: %s leads nowhere", s.where, fields[2])
			}
			value = v[i]
		}
	}
	s.vars[fields[1]] = fmt.Sprint(value)
}

// differ says where have lacks what is wanted, empty where it lacks nothing.
func differ(at string, want, have any) string {
	switch w := want.(type) {
	case map[string]any:
		h, ok := have.(map[string]any)
		if !ok {
			return fmt.Sprintf("%s is %v, want an object", at, have)
		}
		for name, value := range w {
			if d := differ(at+"."+name, value, h[name]); d != "" {
				return d
			}
		}
		return ""
	case []any:
		h, ok := have.([]any)
		if !ok || len(h) != len(w) {
			return fmt.Sprintf("%s is %v, want a list of %d", at, have, len(w))
		}
		for i := range w {
			if d := differ(at+"."+strconv.Itoa(i), w[i], h[i]); d != "" {
				return d
			}
		}
		return ""
	}
	if want == "*" && have != nil || want == have {
		return ""
	}
	return fmt.Sprintf("%s is %v, want %v", at, have, want)
}

// expand puts in saved values and what functions make.
func (s *script) expand(text string) string {
	s.t.Helper()
	call := regexp.MustCompile(`\$\(([^)]*)\)`)
	name := regexp.MustCompile(`\$[a-zA-Z][a-zA-Z0-9]*`)
	text = name.ReplaceAllStringFunc(text, func(m string) string {
		value, ok := s.vars[m[1:]]
		if !ok {
			s.t.Fatalf("%s: nothing was saved as %s", s.where, m)
		}
		return value
	})
	return call.ReplaceAllStringFunc(text, func(m string) string { return s.generate(strings.Fields(m[2 : len(m)-1])) })
}

func (s *script) generate(call []string) string {
	s.t.Helper()
	if len(call) < 2 {
		s.t.Fatalf("%s: $(%s) lacks arguments", s.where, strings.Join(call, " "))
	}
	n, _ := strconv.Atoi(call[1])
	switch call[0] {
	case "repeat": // $(repeat 3 x) is xxx
		return strings.Repeat(call[2], n)
	case "capabilities": // a list of n different ones
		all := make([]string, n)
		for i := range all {
			all[i] = `"files:read` + strconv.Itoa(i) + `"`
		}
		return "[" + strings.Join(all, ",") + "]"
	case "nest": // n objects in each other
		return strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n)
	case "basic": // the header of Basic authentication
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(call[1])+":"+url.QueryEscape(call[2])))
	case "escape": // for a form or a URL
		return url.QueryEscape(strings.Join(call[1:], " "))
	}
	s.t.Fatalf("%s: there is no function %s", s.where, call[0])
	return ""
}
