package witness

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/mod/sumdb/tlog"

	"git.sentryagent.ai/sentryagent-idp/internal/transparency"
)

const (
	stateVersion = 1
	maxState     = 64 << 20
)

// Seen is a checkpoint that was seen, and its text with the log's signature.
type Seen struct {
	Size int64     `json:"size"`
	Root tlog.Hash `json:"root"`
	Note string    `json:"note"`
}

// state is what a witness remembers.
type state struct {
	Version int `json:"version"`
	// Cosigned holds the last checkpoint that was cosigned, by the log's origin.
	Cosigned map[string]Seen `json:"cosigned"`
	// Watched holds the last checkpoint that was fetched, by the URL and the origin. A
	// log publishes what was cosigned, so these lie behind.
	Watched map[string]map[string]Seen `json:"watched"`
}

// Store keeps the state in a file. Only one process can have it open.
type Store struct {
	path string
	lock io.Closer

	mu    sync.Mutex
	state state
}

// CreateStore makes a state file of a witness that has seen nothing. It gives an error
// that is os.ErrExist where there is one.
func CreateStore(path string) (*Store, error) {
	return openStore(path, func() (state, error) {
		if _, err := os.Lstat(path); err == nil {
			return state{}, fmt.Errorf("%s: %w", path, os.ErrExist)
		} else if !errors.Is(err, os.ErrNotExist) {
			return state{}, err
		}
		empty := state{Version: stateVersion, Cosigned: map[string]Seen{}, Watched: map[string]map[string]Seen{}}
		return empty, writeState(path, empty)
	})
}

// OpenStore reads a state file. It gives an error that is os.ErrNotExist where there
// is none: a witness that forgot what it signed must not go on signing.
func OpenStore(path string) (*Store, error) {
	return openStore(path, func() (state, error) { return readState(path) })
}

func openStore(path string, load func() (state, error)) (*Store, error) {
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return nil, fmt.Errorf("the witness's state: %w", err)
	}
	loaded, err := load()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the witness's state: %w", err), lock.Close())
	}
	return &Store{path: path, lock: lock, state: loaded}, nil
}

// Close lets another process open the state.
func (s *Store) Close() error { return s.lock.Close() }

func readState(path string) (state, error) {
	file, err := os.Open(path) //nolint:gosec // the operator says where it is
	if err != nil {
		return state{}, err
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, maxState+1))
	if err != nil {
		return state{}, err
	}
	var st state
	if len(text) > maxState || json.Unmarshal(text, &st) != nil || st.Version != stateVersion || st.Cosigned == nil || st.Watched == nil {
		return state{}, fmt.Errorf("%s is not a witness's state of version %d", path, stateVersion)
	}
	return st, nil
}

// writeState replaces the file as one step that survives a crash: after it, the file
// is the old or the new one, and when it returns, the new one for good.
func writeState(path string, st state) error {
	text, err := json.Marshal(st)
	if err != nil {
		return err
	}
	next := path + ".new"
	if err := os.Remove(next); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := writeDurably(next, text); err != nil {
		return err
	}
	if err := os.Rename(next, path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// writeDurably makes a file that only its owner can read.
func writeDurably(path string, text []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the operator says where it is
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	return errors.Join(err, file.Sync(), file.Close())
}

func syncFolder(path string) error {
	folder, err := os.Open(path) //nolint:gosec // the operator says where it is
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// conflict says that a request began at another size than the one remembered.
type conflict struct{ known int64 }

// Error gives the size that is remembered.
func (c *conflict) Error() string { return fmt.Sprintf("the last checkpoint had the size %d", c.known) }

// cosign advances a log to a checkpoint and then signs. Judgement, record and signature
// are one step that no other request comes between, and the record is durable before
// the signature is made. What is remembered does not change where it gives an error
// of its own: a *conflict, a *Contradiction, or that of the file.
func (s *Store) cosign(c transparency.Checkpoint, signed string, r request, sign func() ([]byte, error)) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, seen := s.state.Cosigned[c.Origin]
	if seen && known.Size == c.Size && known.Root != c.Root {
		return nil, &Contradiction{Kind: ErrForked, Log: c.Origin, Known: known.Note, Shown: signed}
	}
	if r.old != known.Size {
		return nil, &conflict{known: known.Size}
	}
	if err := grows(known, c, r.proof); err != nil {
		return nil, &Contradiction{Kind: err, Log: c.Origin, Known: known.Note, Shown: signed}
	}
	if !seen || known.Size != c.Size {
		next := s.state
		next.Cosigned = maps.Clone(next.Cosigned)
		next.Cosigned[c.Origin] = Seen{Size: c.Size, Root: c.Root, Note: signed}
		if err := s.replace(next); err != nil {
			return nil, err
		}
	}
	return sign()
}

// watched remembers what was fetched.
func (s *Store) watched(url string, c transparency.Checkpoint, signed string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, seen := s.state.Watched[url][c.Origin]; seen && known.Size == c.Size {
		return nil
	}
	next := s.state
	next.Watched = maps.Clone(next.Watched)
	next.Watched[url] = maps.Clone(next.Watched[url])
	if next.Watched[url] == nil {
		next.Watched[url] = map[string]Seen{}
	}
	next.Watched[url][c.Origin] = Seen{Size: c.Size, Root: c.Root, Note: signed}
	return s.replace(next)
}

func (s *Store) replace(next state) error {
	if err := writeState(s.path, next); err != nil {
		return fmt.Errorf("writing the witness's state: %w", err)
	}
	s.state = next
	return nil
}

// size gives the size of the last checkpoint of a log that was cosigned.
func (s *Store) size(origin string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.Cosigned[origin].Size
}

// snapshot gives what is remembered now; it is not to be changed.
func (s *Store) snapshot() state {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}
