package secret_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"git.sentryagent.ai/sentryagent-idp/internal/secret"
)

func TestNothingPrintsASecret(t *testing.T) {
	const text = "correct horse"
	v := secret.New(text)
	holder := struct{ V secret.Value }{v}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+verb, v, holder)
	}
	fmt.Fprint(&out, &v, []secret.Value{v}, map[string]secret.Value{"k": v})
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v, "h", holder)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v, "h", holder)
	encoded, err := json.Marshal(holder)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(encoded)
	for _, leak := range []string{text, fmt.Sprintf("%x", text)} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("the secret was printed: %s", out.String())
		}
	}
	if v.Reveal() != text || !v.Equal(secret.New(text)) || v.Equal(secret.New(text+"x")) || v.IsZero() || !(secret.Value{}).IsZero() {
		t.Error("the secret itself should still be usable")
	}
}
