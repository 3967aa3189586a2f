package oauth

import (
	"net/url"
	"slices"
)

// Bounds on what a token may be asked for.
const (
	maxResources = 8
	maxResource  = 512 // bytes
	maxAudience  = 256 // bytes
)

// audience gives what the token is to be for: the resources (RFC 8707 §2) and
// the audience named, each once. It is empty where the request names none.
func (f form) audience() ([]string, error) {
	if len(f.resources) > maxResources {
		return nil, invalidTarget("at most 8 resources may be named")
	}
	var all []string
	for _, resource := range f.resources {
		if !validResource(resource) {
			return nil, invalidTarget("resource must be an absolute URI of at most 512 bytes, without a fragment")
		}
		if !slices.Contains(all, resource) {
			all = append(all, resource)
		}
	}
	if name := f.get("audience"); name != "" {
		if len(name) > maxAudience || !visible(name) {
			return nil, invalidTarget("audience must be at most 256 visible ASCII characters")
		}
		if !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all, nil
}

func validResource(s string) bool {
	if len(s) > maxResource || !visible(s) {
		return false
	}
	u, err := url.Parse(s)
	if err != nil || !u.IsAbs() || u.Fragment != "" || u.User != nil || s[len(s)-1] == '#' {
		return false
	}
	if u.Scheme == "http" || u.Scheme == "https" {
		return u.Host != ""
	}
	return u.Opaque != "" || u.Host != "" || u.Path != ""
}

func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != ""
}
