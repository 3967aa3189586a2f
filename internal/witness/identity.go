package witness

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/secret"
	"git.sentryagent.ai/sentryagent-idp/internal/transparency"
)

// maxKeyFile bounds the file of a key, in bytes.
const maxKeyFile = 4 << 10

// OpenIdentity gives a witness its key and its memory. Where the key file is missing it
// makes a key of the name, and a state where that is missing too. A witness that has a
// key but no state forgot what it signed, and is refused: os.ErrNotExist. The name may
// be empty where there is a key.
func OpenIdentity(keyPath, statePath, name string, now func() time.Time) (*Store, *transparency.Cosigner, error) {
	_, err := os.Lstat(keyPath)
	made := errors.Is(err, os.ErrNotExist)
	if err != nil && !made {
		return nil, nil, fmt.Errorf("the witness's key: %w", err)
	}
	if made && name == "" {
		return nil, nil, fmt.Errorf("%s is missing: a witness that is new needs a name", keyPath)
	}
	open := OpenStore
	if made {
		open = OpenOrCreateStore
	}
	// The state comes first: its lock lets one process in, and a crash between the two
	// leaves a state without a key, which is harmless.
	store, err := open(statePath)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, fmt.Errorf("%w: this witness forgot what it signed; bring the file back, or retire the key %s and begin with a new one", err, keyPath)
	}
	if err != nil {
		return nil, nil, err
	}
	if made {
		err = makeKey(keyPath, name)
	}
	var cosigner *transparency.Cosigner
	if err == nil {
		cosigner, err = readKey(keyPath, name, now)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("the witness's key: %w", err), store.Close())
	}
	return store, cosigner, nil
}

// OpenOrCreateStore is for who cosigns nothing yet.
func OpenOrCreateStore(path string) (*Store, error) {
	store, err := CreateStore(path)
	if errors.Is(err, os.ErrExist) {
		return OpenStore(path)
	}
	return store, err
}

// makeKey makes the file as a whole, and never replaces one.
func makeKey(path, name string) error {
	key, err := transparency.NewCosignerKey(name)
	if err != nil {
		return err
	}
	next := path + ".new"
	if err := os.Remove(next); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := writeDurably(next, []byte(key.Reveal()+"\n")); err != nil {
		return err
	}
	if err := errors.Join(os.Link(next, path), os.Remove(next)); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

func readKey(path, name string, now func() time.Time) (*transparency.Cosigner, error) {
	file, err := os.Open(path) //nolint:gosec // the operator says where it is
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read or written by others (mode %04o): chmod 600 it", path, info.Mode().Perm())
	}
	text, err := io.ReadAll(io.LimitReader(file, maxKeyFile))
	if err != nil {
		return nil, err
	}
	cosigner, err := transparency.NewCosigner(secret.New(strings.TrimSuffix(string(text), "\n")), now)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if name != "" && name != cosigner.Name() {
		return nil, fmt.Errorf("%s is the key of %s, not of %s", path, cosigner.Name(), name)
	}
	return cosigner, nil
}
