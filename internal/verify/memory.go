package verify

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/note"

	"git.sentryagent.ai/sentryagent-idp/internal/transparency"
)

// maxMemory bounds the file of a memory, in bytes.
const maxMemory = 1 << 20

// ErrOtherKey says that a memory is of a log with another key.
var ErrOtherKey = errors.New("the log that is remembered has another key: the key of a log does not change")

// Memory is what is kept of one log from one verification to the next, in one small
// file: its key and the last checkpoint that was accepted. Two signed checkpoints that
// contradict each other are proof against the log, so the note is kept as it came.
type Memory struct {
	path string
	is   remembered
	log  note.Verifier
	seen *transparency.Checkpoint
}

type remembered struct {
	Key        string `json:"key"`
	Checkpoint string `json:"checkpoint,omitempty"`
}

// OpenMemory reads a memory. A file that is not there is an empty one; one that cannot
// be read, or whose checkpoint its key did not sign, is an error and never forgotten.
func OpenMemory(path string) (*Memory, error) {
	m := &Memory{path: path}
	file, err := os.Open(path) //nolint:gosec // the caller says which file
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading what is remembered: %w", err)
	}
	defer func() { _ = file.Close() }()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("reading what is remembered: %s is not a regular file", path)
	}
	if m.path, err = filepath.EvalSymlinks(path); err != nil {
		return nil, fmt.Errorf("reading what is remembered: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(file, maxMemory))
	if err == nil {
		err = json.Unmarshal(text, &m.is)
	}
	if err == nil {
		m.log, err = note.NewVerifier(m.is.Key)
	}
	if err == nil && m.is.Checkpoint != "" {
		var seen transparency.Checkpoint
		seen, err = transparency.Open([]byte(m.is.Checkpoint), m.log)
		m.seen = &seen
	}
	if err != nil {
		return nil, fmt.Errorf("reading what is remembered in %s: %w", path, err)
	}
	return m, nil
}

// Key gives the log's verifier key; empty where none is remembered yet.
func (m *Memory) Key() string { return m.is.Key }

// Seen gives the last checkpoint that was accepted; nil where there is none.
func (m *Memory) Seen() *transparency.Checkpoint { return m.seen }

// Signed gives the note that the last checkpoint came in; empty where there is none.
func (m *Memory) Signed() string { return m.is.Checkpoint }

// Log gives the verifier of the key; nil where none is remembered yet.
func (m *Memory) Log() note.Verifier { return m.log }

// Pin takes a verifier key where none is remembered yet. It fails with ErrOtherKey where
// another one is. Remember or Save writes it down.
func (m *Memory) Pin(key string) error {
	if m.is.Key == key {
		return nil
	}
	if m.is.Key != "" {
		return ErrOtherKey
	}
	log, err := note.NewVerifier(key)
	if err != nil {
		return fmt.Errorf("the log's key: %w", err)
	}
	m.is.Key, m.log = key, log
	return nil
}

// Remember replaces the last checkpoint by one that was found to be consistent with it.
// It refuses a smaller one and another tree of the same size with a *Failure, and fails
// where somebody else has written the file in between.
func (m *Memory) Remember(signed []byte) error {
	c, err := transparency.Open(signed, m.log)
	if err != nil {
		return err
	}
	now, err := OpenMemory(m.path)
	if err != nil {
		return err
	}
	if now.is.Key != "" && now.is.Key != m.is.Key {
		return ErrOtherKey
	}
	if now.is.Checkpoint != m.is.Checkpoint {
		if now.seen != nil && *now.seen == c {
			return nil
		}
		return fmt.Errorf("%s was changed while the record was being verified: verify again", m.path)
	}
	if m.seen != nil && c.Size < m.seen.Size {
		return rolledBack(*m.seen, c)
	}
	if m.seen != nil && c.Size == m.seen.Size {
		if c.Root == m.seen.Root {
			return nil
		}
		return &Failure{Kind: Forked, Sequence: min(1, c.Size), Last: c.Size, Detail: fmt.Sprintf("the log signed two different trees of %d leaves", c.Size)}
	}
	m.is.Checkpoint, m.seen = string(signed), &c
	return m.Save()
}

// Save writes the memory, whole or not at all, for its owner's eyes alone.
func (m *Memory) Save() (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("remembering: %w", err)
		}
	}()
	text, err := json.MarshalIndent(m.is, "", "  ")
	if err != nil {
		return err
	}
	dir := filepath.Dir(m.path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	file, err := os.CreateTemp(dir, ".remember-*") // with mode 0600
	if err != nil {
		return err
	}
	_, err = file.Write(append(text, '\n'))
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), m.path)
	}
	if err != nil {
		_ = os.Remove(file.Name())
	}
	return err
}
