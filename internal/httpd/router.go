package httpd

import (
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"

	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/wire"
)

// Route is one endpoint; Path is in the syntax of http.ServeMux, without a method
// or a host.
type Route struct {
	Method, Path string
	Handler      http.Handler
}

// Router serves the routes, and answers what is not among them in the shape all
// errors have.
func Router(routes []Route) http.Handler {
	// By path alone: with methods, the mux would take two paths of which one is more
	// specific for a contradiction.
	paths := map[string]methods{}
	for _, r := range routes {
		if paths[r.Path] == nil {
			paths[r.Path] = methods{}
		}
		paths[r.Path][r.Method] = r.Handler
		if r.Method == http.MethodGet {
			paths[r.Path][http.MethodHead] = r.Handler
		}
	}
	mux := http.NewServeMux()
	for p, m := range paths {
		mux.Handle(p, m)
	}
	mux.HandleFunc("/", notFound)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The mux would answer an unclean path with a redirect, and * in a shape of its own.
		if r.RequestURI == "*" || r.URL.Path != "/" && r.URL.Path != path.Clean(r.URL.Path) {
			notFound(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// methods is what one path takes.
type methods map[string]http.Handler

// ServeHTTP serves the method, or says which there are.
func (m methods) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h, ok := m[r.Method]; ok {
		r.Pattern = r.Method + " " + r.Pattern // for the log line
		h.ServeHTTP(w, r)
		return
	}
	allow := strings.Join(slices.Sorted(maps.Keys(m)), ", ")
	w.Header().Set("Allow", allow)
	wire.Error(w, r, fault.New(fault.MethodNotAllowed, fault.CodeMethodNotAllowed, "this path takes "+allow))
}

func notFound(w http.ResponseWriter, r *http.Request) {
	wire.Error(w, r, fault.New(fault.NotFound, fault.CodeNotFound, "there is nothing here"))
}
