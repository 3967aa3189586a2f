package witness

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"git.sentryagent.ai/sentryagent-idp/internal/transparency"
)

// maxWitnesses bounds how many witnesses a log has.
const maxWitnesses = 32

// Witness is one that a log asks.
type Witness struct {
	// Key verifies its cosignatures.
	Key note.Verifier
	// URL is its submission prefix, without a slash at the end.
	URL string
}

// ParseWitnesses reads the setting of a log's witnesses: entries of a verifier key, a
// space and a URL, such as "w.example/1+5f8a2c31+BH3… https://w.example/1", separated
// by commas or line feeds. Empty entries and those that begin with # are skipped. An
// error names the entry, counted from 1, and the rule.
func ParseWitnesses(text string) ([]Witness, error) {
	var witnesses []Witness
	seen := map[string]bool{}
	number := 0
	for entry := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ',' || r == '\n' }) {
		entry = strings.TrimSpace(entry)
		if entry == "" || strings.HasPrefix(entry, "#") {
			continue
		}
		number++
		w, err := parseWitness(entry)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", number, err)
		}
		_, material, _ := strings.Cut(strings.TrimPrefix(strings.Fields(entry)[0], w.Key.Name()+"+"), "+")
		if seen[w.Key.Name()] || seen["+"+material] { // no name holds a +
			return nil, fmt.Errorf("entry %d: the witness %s or its key is there already", number, w.Key.Name())
		}
		if number > maxWitnesses {
			return nil, fmt.Errorf("entry %d: at most %d witnesses", number, maxWitnesses)
		}
		seen[w.Key.Name()], seen["+"+material] = true, true
		witnesses = append(witnesses, w)
	}
	return witnesses, nil
}

func parseWitness(entry string) (Witness, error) {
	fields := strings.Fields(entry)
	if len(fields) != 2 {
		return Witness{}, fmt.Errorf("must be a verifier key, a space and a URL, not %d words", len(fields))
	}
	key, err := transparency.NewCosignatureVerifier(fields[0])
	if err != nil {
		return Witness{}, fmt.Errorf("the verifier key: %w", err)
	}
	prefix, err := parsePrefix(fields[1])
	if err != nil {
		return Witness{}, fmt.Errorf("the URL of %s: %w", key.Name(), err)
	}
	return Witness{Key: key, URL: prefix}, nil
}

// parsePrefix reads a URL that paths are added to. What it may reach is judged by
// package outbound.
func parsePrefix(text string) (string, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return "", fmt.Errorf("cannot be read") // the cause repeats it, and maybe a password
	case u.Scheme != "https" && u.Scheme != "http":
		return "", fmt.Errorf("the scheme must be https, or http for a loopback address")
	case u.Host == "" || u.Opaque != "":
		return "", fmt.Errorf("must have a host")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "", fmt.Errorf("must not have a user, a query or a fragment")
	}
	return strings.TrimRight(u.String(), "/"), nil
}

// ParseQuorum reads how many of a log's witnesses must cosign. Where the text is
// empty it is more than half of them: then, as long as no witness signs two trees, no
// two trees that contradict can both be published.
func ParseQuorum(text string, witnesses int) (int, error) {
	if text == "" {
		if witnesses == 0 {
			return 0, nil
		}
		return witnesses/2 + 1, nil
	}
	quorum, err := strconv.Atoi(text)
	switch {
	case err != nil:
		return 0, fmt.Errorf("must be a whole number")
	case witnesses == 0 && quorum != 0:
		return 0, fmt.Errorf("must be 0 where there are no witnesses")
	case witnesses > 0 && (quorum < 1 || quorum > witnesses):
		return 0, fmt.Errorf("must be from 1 to %d, the number of witnesses", witnesses)
	}
	return quorum, nil
}
