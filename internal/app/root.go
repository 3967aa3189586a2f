package app

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"git.sentryagent.ai/sentryagent-idp/internal/config"
	"git.sentryagent.ai/sentryagent-idp/internal/keys"
	"git.sentryagent.ai/sentryagent-idp/internal/secret"
)

// rootKeys derives the server's keys from JWT_SECRET, or from the secret that is
// made once in the data directory.
func rootKeys(cfg *config.Config) (*keys.Root, error) {
	root := cfg.RootSecret
	if root.IsZero() {
		var err error
		if root, err = madeSecret(SecretPath(cfg)); err != nil {
			return nil, fmt.Errorf("the root secret in the data directory: %w", err)
		}
	}
	return keys.NewRoot(root, cfg.RootSecretPrevious)
}

// SecretPath is where the secret that the server made for itself stands.
func SecretPath(cfg *config.Config) string { return filepath.Join(cfg.DataDir, "jwt-secret") }

// madeSecret reads the file, making it where it is missing. Another process that
// makes it at the same moment, or a crash, leaves one whole secret.
func madeSecret(path string) (secret.Value, error) {
	text, err := os.ReadFile(path) //nolint:gosec // the path is the operator's own
	if errors.Is(err, fs.ErrNotExist) {
		if err = makeSecret(path); err == nil {
			text, err = os.ReadFile(path) //nolint:gosec // see above
		}
	}
	return secret.New(string(text)), err
}

func makeSecret(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	file, err := os.CreateTemp(dir, "jwt-secret-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file.Name()) }()
	_, err = file.WriteString(keys.NewRootSecret().Reveal())
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	// A link, unlike a rename, never replaces what is there.
	if err := os.Link(file.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}
