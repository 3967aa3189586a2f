package httpd

import (
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
	mux := http.NewServeMux()
	methods := map[string][]string{}
	for _, r := range routes {
		mux.Handle(r.Method+" "+r.Path, r.Handler)
		methods[r.Path] = append(methods[r.Path], r.Method)
		if r.Method == http.MethodGet {
			methods[r.Path] = append(methods[r.Path], http.MethodHead)
		}
	}
	for p, allowed := range methods {
		slices.Sort(allowed)
		allow := strings.Join(slices.Compact(allowed), ", ")
		mux.HandleFunc(p, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Allow", allow)
			wire.Error(w, r, fault.New(fault.MethodNotAllowed, fault.CodeMethodNotAllowed, "this path takes "+allow))
		})
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

func notFound(w http.ResponseWriter, r *http.Request) {
	wire.Error(w, r, fault.New(fault.NotFound, fault.CodeNotFound, "there is nothing here"))
}
