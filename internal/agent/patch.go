package agent

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
)

// apply changes the agent by a patch that keeps the rules, and names the members
// whose value is now another.
func (p Patch) apply(a *Agent) (changed []string, err error) {
	text := func(name string, to *string, value *string) {
		if to != nil && *to != *value {
			*value = *to
			changed = append(changed, name)
		}
	}
	text("agentType", p.Type, &a.Type)
	text("version", p.Version, &a.Version)
	text("owner", p.Owner, &a.Owner)
	text("deploymentEnv", p.DeploymentEnv, &a.DeploymentEnv)
	if p.Capabilities != nil {
		if to := scope.New(*p.Capabilities...); !slices.Equal(to, a.Capabilities) {
			a.Capabilities = to
			changed = append(changed, "capabilities")
		}
	}
	if p.TokenTTL != nil && *p.TokenTTL != a.TokenTTL {
		a.TokenTTL = *p.TokenTTL
		changed = append(changed, "tokenTtlSeconds")
	}
	if p.Metadata != nil {
		merged, err := mergeMetadata(a.Metadata, p.Metadata)
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(merged, normalized(a.Metadata)) {
			var r rules
			if r.metadata(merged); len(r.fields) > 0 {
				return nil, r.err()
			}
			a.Metadata = merged
			changed = append(changed, "metadata")
		}
	}
	return changed, nil
}

// mergeMetadata applies a merge patch (RFC 7396 §2) that keeps the rules to the
// stored metadata. A patch of null empties it.
func mergeMetadata(stored, patch json.RawMessage) (json.RawMessage, error) {
	change, ok := decode(patch)
	if ok && change == nil {
		return json.RawMessage("{}"), nil
	}
	members, ok := change.(map[string]any)
	if !ok {
		return nil, fault.InvalidField("metadata", "type", "metadata must be a JSON object")
	}
	target, _ := decode(stored) // nothing stored is an empty object to the merge
	return encode(mergePatch(target, members))
}

func mergePatch(target any, patch map[string]any) map[string]any {
	members, ok := target.(map[string]any)
	if !ok {
		members = map[string]any{}
	}
	for name, change := range patch {
		switch change := change.(type) {
		case nil:
			delete(members, name)
		case map[string]any:
			members[name] = mergePatch(members[name], change)
		default:
			members[name] = change
		}
	}
	return members
}

// normalized gives metadata in the one form that is kept, so that a merge changes
// nothing but what the patch names. What is not JSON stays for the rules to refuse.
func normalized(m json.RawMessage) json.RawMessage {
	value, ok := decode(m)
	if !ok {
		return m
	}
	if kept, err := encode(value); err == nil {
		return kept
	}
	return m
}

// decode reads exactly one JSON value and keeps numbers as they are written.
func decode(text []byte) (value any, ok bool) {
	if !json.Valid(text) {
		return nil, false
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	err := d.Decode(&value)
	return value, err == nil
}

// encode leaves the signs of HTML alone: escaped they would count sixfold.
func encode(value any) (json.RawMessage, error) {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		return nil, fmt.Errorf("encoding metadata: %w", err)
	}
	return bytes.TrimSpace(text.Bytes()), nil
}
