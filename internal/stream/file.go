package stream

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"git.sentryagent.ai/sentryagent-idp/internal/export"
)

// File appends to a file, a line to an event. The file may be moved away or removed
// at any time, as logrotate does: the next batch goes to a new one.
type File struct {
	path   string
	format export.Format
	file   *os.File // nil while none is open
}

// NewFile makes a sink for the path; the file is opened by the first batch. Where it
// has to be made, only its owner may read it.
func NewFile(path string, format export.Format) *File { return &File{path: path, format: format} }

// Deliver appends the batch and returns when the disk has it. What a failure left of
// a line stays, and is ended with a line feed before anything follows.
func (f *File) Deliver(_ context.Context, batch []export.Entry) error {
	if err := f.open(); err != nil {
		return err
	}
	torn, err := f.torn()
	if err != nil {
		return f.fail("reading the end of", err)
	}
	var b []byte
	if torn {
		b = append(b, '\n')
	}
	for _, e := range batch {
		if b, err = f.format.Append(b, e); err != nil {
			return formatting(e, err)
		}
	}
	if _, err := f.file.Write(b); err != nil {
		return f.fail("writing to", err)
	}
	if err := f.file.Sync(); err != nil {
		return f.fail("syncing", err)
	}
	return nil
}

// Close closes the file.
func (f *File) Close() error {
	if f.file == nil {
		return nil
	}
	file := f.file
	f.file = nil
	return file.Close()
}

// open sees to it that the open file is the one that the path names.
func (f *File) open() error {
	if f.file != nil {
		named, err := os.Stat(f.path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("looking at %s: %w", f.path, err)
		}
		opened, statErr := f.file.Stat()
		if err == nil && statErr == nil && os.SameFile(named, opened) {
			return nil
		}
		if err := f.Close(); err != nil {
			return fmt.Errorf("closing what was %s: %w", f.path, err)
		}
	}
	file, err := os.OpenFile(f.path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("opening the file: %w", err)
	}
	f.file = file
	// A new file is lost with the power where its name is not on the disk.
	if err := syncFolder(f.path); err != nil {
		return f.fail("syncing the folder of", err)
	}
	return nil
}

func syncFolder(path string) error {
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// torn reports whether the file ends within a line.
func (f *File) torn() (bool, error) {
	info, err := f.file.Stat()
	if err != nil || info.Size() == 0 {
		return false, err
	}
	var last [1]byte
	if _, err := f.file.ReadAt(last[:], info.Size()-1); err != nil {
		return false, err
	}
	return last[0] != '\n', nil
}

// fail closes the file, so that the next batch opens it afresh.
func (f *File) fail(doing string, err error) error {
	return errors.Join(fmt.Errorf("%s %s: %w", doing, f.path, err), f.Close())
}

// formatting says which event cannot be written.
func formatting(e export.Entry, err error) error {
	return fmt.Errorf("writing event %d: %w", e.Sequence, err)
}
