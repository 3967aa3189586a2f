package apidocs

import (
	"compress/gzip"
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"

	"github.com/swaggest/swgui/v5/static"
	"go.yaml.in/yaml/v3"

	"git.sentryagent.ai/sentryagent-idp/docs"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/request"
	"git.sentryagent.ai/sentryagent-idp/internal/wire"
)

//go:embed index.html init.js
var own embed.FS

// policy lets the page load from this host alone. Swagger UI draws with data:
// images and sets styles on elements.
const policy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Handlers gives the pages by path, all for GET.
func Handlers() map[string]http.Handler {
	asJSON := sync.OnceValues(contractJSON)
	return map[string]http.Handler{
		"/openapi.yaml": document("application/yaml", func() ([]byte, error) { return docs.OpenAPI, nil }),
		"/openapi.json": document("application/json", asJSON),
		"/api-docs":     document("text/html; charset=utf-8", func() ([]byte, error) { return own.ReadFile("index.html") }),
		"/api-docs/{asset}": assets(map[string]http.Handler{
			"init.js":              document("text/javascript; charset=utf-8", func() ([]byte, error) { return own.ReadFile("init.js") }),
			"swagger-ui.css":       document("text/css; charset=utf-8", unpacked("swagger-ui.css.gz")),
			"swagger-ui-bundle.js": document("text/javascript; charset=utf-8", unpacked("swagger-ui-bundle.js.gz")),
			"favicon-32x32.png":    document("image/png", unpacked("favicon-32x32.png")),
		}),
	}
}

func contractJSON() ([]byte, error) {
	var contract map[string]any
	if err := yaml.Unmarshal(docs.OpenAPI, &contract); err != nil {
		return nil, fmt.Errorf("reading the contract: %w", err)
	}
	return json.Marshal(contract)
}

// assets serves what the page refers to, and nothing else.
func assets(byName map[string]http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, ok := byName[r.PathValue("asset")]
		if !ok {
			wire.Error(w, r, fault.New(fault.NotFound, fault.CodeNotFound, "there is nothing here"))
			return
		}
		h.ServeHTTP(w, r)
	})
}

// unpacked gives a file of Swagger UI, which is embedded compressed.
func unpacked(name string) func() ([]byte, error) {
	return sync.OnceValues(func() ([]byte, error) {
		file, err := static.FS.Open(name)
		if err != nil {
			return nil, err
		}
		defer func() { _ = file.Close() }()
		if !strings.HasSuffix(name, ".gz") {
			return io.ReadAll(file)
		}
		content, err := gzip.NewReader(file)
		if err != nil {
			return nil, err
		}
		return io.ReadAll(content)
	})
}

func document(mediaType string, content func() ([]byte, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := content()
		if err != nil {
			wire.Error(w, r, err)
			return
		}
		w.Header().Set("Content-Type", mediaType)
		w.Header().Set("Cache-Control", "public, max-age=300")
		w.Header().Set("Content-Security-Policy", policy)
		if _, err := w.Write(body); err != nil {
			request.Note(r.Context(), slog.String("write", err.Error()))
		}
	})
}
