package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"git.sentryagent.ai/sentryagent-idp/internal/verify"
)

// maxKeyFile bounds a file with a verifier key, in bytes.
const maxKeyFile = 4096

// recall finds the log's key, and what is remembered of the log: by the file that was
// named, else by the key that was given, else by the key that the server had before.
func (v *verification) recall(ctx context.Context, warn *printer) error {
	given, err := v.givenKey()
	if err != nil {
		return err
	}
	path := v.state
	if path == "" {
		dir, err := v.c.stateDir()
		if err != nil {
			return err
		}
		if given == "" {
			if given, err = v.pinned(ctx, dir, warn); err != nil {
				return err
			}
		}
		path = filepath.Join(dir, "log-"+fileName(given)+".json")
	}
	if v.memory, err = verify.OpenMemory(path); err != nil {
		return err
	}
	if given == "" && v.memory.Key() == "" {
		if given, err = v.firstKey(ctx, warn); err != nil {
			return err
		}
	}
	if given == "" {
		return nil
	}
	if err := v.memory.Pin(given); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// givenKey is the key of --key, which names a file or is the key itself.
func (v *verification) givenKey() (string, error) {
	if v.key == "" {
		return "", nil
	}
	if _, err := note.NewVerifier(v.key); err == nil {
		return v.key, nil
	}
	text, err := readSmall(v.key, maxKeyFile)
	if err != nil {
		return "", fmt.Errorf("--key: this is no verifier key, and no file that can be read: %w", err)
	}
	key := strings.TrimSpace(text)
	if _, err := note.NewVerifier(key); err != nil {
		return "", fmt.Errorf("--key: %s holds no verifier key", v.key)
	}
	return key, nil
}

// pinned gives the key that the server had the first time.
func (v *verification) pinned(ctx context.Context, dir string, warn *printer) (string, error) {
	if v.server == nil {
		return "", errNoKey()
	}
	pin, err := verify.OpenMemory(filepath.Join(dir, "server-"+fileName(v.server.base)+".json"))
	if err != nil {
		return "", err
	}
	if pin.Key() != "" {
		return pin.Key(), nil
	}
	key, err := v.firstKey(ctx, warn)
	if err != nil {
		return "", err
	}
	v.pin = pin
	return key, pin.Pin(key)
}

// firstKey believes the server's own key, and says so.
func (v *verification) firstKey(ctx context.Context, warn *printer) (string, error) {
	if v.server == nil {
		return "", errNoKey()
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	text, err := v.server.text(ctx, "/audit/key")
	if err != nil {
		return "", fmt.Errorf("asking for the log's key: %w", err)
	}
	key := strings.TrimSpace(text)
	if _, err := note.NewVerifier(key); err != nil {
		return "", fmt.Errorf("asking for the log's key: %w", err)
	}
	warn.line("warning: no key was given, and none is remembered. The server's own is believed this once:")
	warn.line("  %s", key)
	warn.line("Who gives both the log and its key can give anything: compare it with the one the operator published.")
	return key, warn.err
}

func errNoKey() error {
	return errors.New("--key: say which key the log has; over the network GET /audit/key gives it")
}

// remember writes down what was found right.
func (v *verification) remember(signed []byte) error {
	if err := v.memory.Remember(signed); err != nil {
		return err
	}
	if v.pin != nil {
		return v.pin.Save()
	}
	return nil
}

// stateDir is where what is remembered is kept.
func (c *command) stateDir() (string, error) {
	base := c.env("XDG_STATE_HOME")
	if base == "" && runtime.GOOS == "windows" {
		base = c.env("LOCALAPPDATA")
	}
	if home := c.env("HOME"); base == "" && home != "" {
		base = filepath.Join(home, ".local", "state")
	}
	if !filepath.IsAbs(base) {
		return "", errors.New("--state: say in which file to remember; neither XDG_STATE_HOME nor HOME tells where")
	}
	return filepath.Join(base, "agentidp"), nil
}

// fileName names a file after a text of any kind.
func fileName(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:16])
}
