package credential

import (
	"bytes"
	"errors"
	"io"
)

// Pattern is how scanners find secrets, in the syntax of RE2. What it matches is a secret
// of ours where ParseSecret takes it, which no database needs to be asked for.
const Pattern = `\bsidp_[0-9A-Za-z]{61}\b`

// scanAtOnce is how much is looked through at a time, in bytes.
const scanAtOnce = 256 << 10

// Scan reads a text of any length and calls found for each secret in it, with the number
// of its line, from 1. What looks like a secret and has a wrong checksum is none. It
// fails as r does.
func Scan(r io.Reader, found func(line int, s Secret)) error {
	buf, kept, line := make([]byte, scanAtOnce), 0, 1
	for {
		n, err := io.ReadFull(r, buf[kept:])
		text := buf[:kept+n]
		at := 0
		for {
			i := bytes.Index(text[at:], []byte(secretPrefix))
			if i < 0 || at+i+SecretLength > len(text) {
				break
			}
			line += bytes.Count(text[at:at+i], []byte("\n"))
			at += i
			if s, err := ParseSecret(string(text[at : at+SecretLength])); err == nil {
				found(line, s)
			}
			at += len(secretPrefix)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
		// The end may be the beginning of one.
		rest := max(at, len(text)-SecretLength+1)
		line += bytes.Count(text[at:rest], []byte("\n"))
		kept = copy(buf, text[rest:])
	}
}
