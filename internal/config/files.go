package config

import (
	"slices"
	"strings"
)

// SecretFiles gives the files that secrets are read from.
func (src Sources) SecretFiles() []string {
	var all []string
	for _, layer := range src.layers() {
		for _, s := range Settings() {
			if path := layer[s.Name+"_FILE"]; s.Secret && path != "" {
				all = append(all, path)
			}
		}
	}
	return all
}

// HoldsSecret says that a secret stands in the .env file itself.
func (src Sources) HoldsSecret() bool {
	values, _ := src.dotEnv() // Load says what is wrong with it
	return slices.ContainsFunc(Settings(), func(s Setting) bool { return s.Secret && values[s.Name] != "" })
}

// layers are where settings come from, the nearest first.
func (src Sources) layers() []map[string]string {
	fromFile, _ := src.dotEnv() // see above
	return []map[string]string{src.Flags, environment(src.Environ), fromFile}
}

// environment turns NAME=value pairs into a map.
func environment(pairs []string) map[string]string {
	all := map[string]string{}
	for _, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		all[name] = value
	}
	return all
}
