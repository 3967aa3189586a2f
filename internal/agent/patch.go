package agent

import (
	"bytes"
	"encoding/json"
	"slices"

	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
)

// apply changes the agent and names the members whose value is now another.
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
	if p.Capabilities != nil && !slices.Equal(*p.Capabilities, a.Capabilities) {
		a.Capabilities = scope.Set(slices.Clone(*p.Capabilities))
		changed = append(changed, "capabilities")
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
		if !bytes.Equal(merged, a.Metadata) {
			a.Metadata = merged
			changed = append(changed, "metadata")
		}
	}
	return changed, nil
}

// mergeMetadata applies a merge patch (RFC 7396 §2) to the stored metadata. A
// patch of null empties it.
func mergeMetadata(stored, patch json.RawMessage) (json.RawMessage, error) {
	if len(patch) > MaxMetadata || depth(patch) > MaxDepth {
		return nil, fault.InvalidField("metadata", "size", "metadata must be at most 16 KiB of JSON, nested at most 8 levels deep")
	}
	trimmed := bytes.TrimSpace(patch)
	if bytes.Equal(trimmed, []byte("null")) {
		return json.RawMessage("{}"), nil
	}
	if len(trimmed) == 0 || trimmed[0] != '{' {
		return nil, fault.InvalidField("metadata", "type", "metadata must be a JSON object")
	}
	return mergePatch(stored, patch)
}

func mergePatch(target, patch json.RawMessage) (json.RawMessage, error) {
	var changes map[string]json.RawMessage
	if err := json.Unmarshal(patch, &changes); err != nil || changes == nil {
		return patch, nil //nolint:nilerr // a patch that is no object replaces the target (RFC 7396 §2)
	}
	members := map[string]json.RawMessage{}
	if len(target) > 0 && target[0] == '{' {
		if err := json.Unmarshal(target, &members); err != nil {
			return nil, fault.InvalidField("metadata", "json", "metadata must be valid JSON")
		}
	}
	for name, change := range changes {
		if bytes.Equal(bytes.TrimSpace(change), []byte("null")) {
			delete(members, name)
			continue
		}
		merged, err := mergePatch(members[name], change)
		if err != nil {
			return nil, err
		}
		members[name] = merged
	}
	merged, err := json.Marshal(members)
	if err != nil {
		return nil, fault.InvalidField("metadata", "json", "metadata must be valid JSON")
	}
	return merged, nil
}
