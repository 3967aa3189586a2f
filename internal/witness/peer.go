package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"git.sentryagent.ai/sentryagent-idp/internal/outbound"
)

// ErrResting says that a witness was not asked, as it failed a moment ago.
var ErrResting = errors.New("it failed before and is left alone for now")

// errLate says that enough others had signed and this one was waited for no longer.
var errLate = errors.New("it took longer than the others")

const (
	firstRest = time.Second
	maxRest   = 30 * time.Second
)

// peer is a witness as the log knows it.
type peer struct {
	Witness
	client *outbound.Client

	mu       sync.Mutex
	size     int64 // of the last checkpoint it cosigned, as far as is known
	failures int
	last     error     // why it failed the last time
	rest     time.Time // it is not asked before
}

func newPeer(w Witness, client *outbound.Client) (*peer, error) {
	u, err := url.Parse(w.URL)
	if err != nil {
		return nil, fmt.Errorf("the URL of the witness %s cannot be read", w.Key.Name())
	}
	if err := client.Check(u); err != nil {
		return nil, fmt.Errorf("the URL of the witness %s: %w", w.Key.Name(), err)
	}
	return &peer{Witness: w, client: client}, nil
}

// ownFailure is a failure of the log itself, which is not held against a witness.
type ownFailure struct{ cause error }

// Error is that of the cause.
func (f *ownFailure) Error() string { return f.cause.Error() }

// Unwrap gives the cause.
func (f *ownFailure) Unwrap() error { return f.cause }

// sign gives a verified signature line.
func (p *peer) sign(ctx context.Context, q question, now func() time.Time) (string, error) {
	p.mu.Lock()
	old, rest, last := p.size, p.rest, p.last
	p.mu.Unlock()
	if now().Before(rest) {
		return "", fmt.Errorf("%w: %w", ErrResting, last)
	}
	line, err := p.exchange(ctx, q, min(old, q.checkpoint.Size))
	p.mu.Lock()
	defer p.mu.Unlock()
	own := (*ownFailure)(nil)
	switch {
	case err == nil:
		p.size, p.failures, p.rest = q.checkpoint.Size, 0, time.Time{}
	case errors.Is(err, context.Canceled):
		err = errLate
	case errors.As(err, &own):
	default:
		p.rest = now().Add(min(maxRest, firstRest<<min(p.failures, 10)))
		p.failures++
		p.last = err
	}
	return line, err
}

// exchange asks, and asks once more where the witness knows another size.
func (p *peer) exchange(ctx context.Context, q question, old int64) (string, error) {
	resp, err := p.post(ctx, q, old)
	if err != nil {
		return "", err
	}
	if resp.Status == http.StatusConflict {
		known, err := q.known(resp, old)
		if err != nil {
			return "", err
		}
		if resp, err = p.post(ctx, q, known); err != nil {
			return "", err
		}
		old = known
	}
	switch resp.Status {
	case http.StatusOK:
		return p.verify(q, resp.Body)
	case http.StatusConflict:
		if _, err := q.known(resp, old); err != nil {
			return "", err
		}
		return "", errors.New("it knows another size each time it is asked")
	case http.StatusUnprocessableEntity:
		return "", fmt.Errorf("%w: it says that its tree of %d leaves is not the beginning of ours", ErrForked, old)
	}
	return "", fmt.Errorf("it answered %d: %q", resp.Status, firstLine(resp.Body))
}

// known reads the size that a witness says it knows, and tells what that means.
func (q question) known(resp *outbound.Response, old int64) (int64, error) {
	text, _ := strings.CutSuffix(string(resp.Body), "\n")
	known, ok := parseSize(text)
	switch {
	case !ok:
		return 0, fmt.Errorf("it answered 409 without a size: %q", firstLine(resp.Body))
	case known > q.checkpoint.Size:
		return 0, fmt.Errorf("%w: it cosigned a tree of %d leaves, ours has %d", ErrCut, known, q.checkpoint.Size)
	case known != old:
		return known, nil
	case known == q.checkpoint.Size:
		return 0, fmt.Errorf("%w: it knows another tree of %d leaves", ErrForked, known)
	default:
		return 0, fmt.Errorf("it answered 409 to the size %d that it knows", known)
	}
}

// post sends the checkpoint with a proof from the old size.
func (p *peer) post(ctx context.Context, q question, old int64) (*outbound.Response, error) {
	var proof tlog.TreeProof
	if old > 0 && old < q.checkpoint.Size {
		var err error
		if proof, err = q.prove(ctx, old, q.checkpoint.Size); err != nil {
			return nil, &ownFailure{fmt.Errorf("proving from the size %d that it knows: %w", old, err)}
		}
	}
	body := request{old: old, proof: proof, checkpoint: q.signed}.bytes()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.URL+addPath, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "text/plain; charset=utf-8")
	req.Header.Set("User-Agent", "agentidp")
	return p.client.Do(req)
}

// verify finds the witness's signature in its answer. Those of others are skipped.
func (p *peer) verify(q question, answer []byte) (string, error) {
	if len(answer) > maxBody {
		return "", errors.New("its answer is too long")
	}
	n, err := note.Open(append([]byte(q.text+"\n"), answer...), note.VerifierList(p.Key))
	if err != nil {
		return "", fmt.Errorf("its cosignature: %w", err)
	}
	if n.Text != q.text {
		return "", errors.New("its answer holds more than signatures")
	}
	return signatureLine(n.Sigs[0]), nil
}

// firstLine gives as much of an answer as an error may hold.
func firstLine(body []byte) string {
	line, _, _ := strings.Cut(string(body[:min(len(body), 200)]), "\n")
	return line
}
