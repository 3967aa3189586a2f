package stream

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/export"
)

// WebhookTimeout bounds one delivery by a webhook.
const WebhookTimeout = 30 * time.Second

// answer is how much of an answer is read, so that the connection can be used again.
const answer = 64 << 10

// Client sends requests. The one that is given must guard against addresses that
// nobody should be sent to.
type Client interface {
	Do(r *http.Request) (*http.Response, error)
}

// Webhook posts batches, signed after Standard Webhooks. An answer of 2xx takes a
// batch; anything else does not.
type Webhook struct {
	url       string
	keys      [][]byte
	client    Client
	format    export.Format
	userAgent string
	now       func() time.Time
}

// NewWebhook makes a sink for the URL of the settings. It fails where they are wrong.
func NewWebhook(s Settings, client Client, format export.Format, version string, now func() time.Time) (*Webhook, error) {
	if err := checkWebhook(s.Webhook); err != nil {
		return nil, fmt.Errorf("AUDIT_STREAM_WEBHOOK: %w", err)
	}
	keys, err := signingKeys(s.WebhookSecret)
	if err != nil {
		return nil, fmt.Errorf("AUDIT_STREAM_WEBHOOK_SECRET: %w", err)
	}
	return &Webhook{url: s.Webhook, keys: keys, client: client, format: format, userAgent: "agentidp/" + header(version, 64), now: now}, nil
}

// Deliver posts the batch once. The id of the request follows from the batch, so
// that a repetition can be known as one. It fails with *Refused where the answer is
// not 2xx.
func (w *Webhook) Deliver(ctx context.Context, batch []export.Entry) error {
	ctx, cancel := context.WithTimeout(ctx, WebhookTimeout)
	defer cancel()
	request, err := w.request(ctx, batch)
	if err != nil {
		return err
	}
	response, err := w.client.Do(request)
	if err != nil {
		// The error of net/http repeats the URL, which may hold a token.
		if at, ok := errors.AsType[*url.Error](err); ok {
			err = at.Err
		}
		return fmt.Errorf("posting to the webhook: %w", err)
	}
	defer func() { _ = response.Body.Close() }() // what it says is not looked at
	_, _ = io.CopyN(io.Discard, response.Body, answer)
	if response.StatusCode/100 != 2 {
		return &Refused{Status: response.StatusCode, RetryAfter: retryAfter(response.Header.Get("Retry-After"), w.now())}
	}
	return nil
}

// Close does nothing, as the client is not the sink's.
func (w *Webhook) Close() error { return nil }

func (w *Webhook) request(ctx context.Context, batch []export.Entry) (*http.Request, error) {
	var body []byte
	for _, e := range batch {
		var err error
		if body, err = w.format.Append(body, e); err != nil {
			return nil, formatting(e, err)
		}
	}
	first, last := batch[0], batch[len(batch)-1]
	id, err := first.ID()
	if err != nil {
		return nil, formatting(first, err)
	}
	id += "-" + strconv.FormatInt(last.Sequence, 10)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("making the request of the webhook failed") // the cause repeats the URL
	}
	timestamp := strconv.FormatInt(w.now().Unix(), 10)
	for name, value := range map[string]string{
		"Content-Type": w.format.MediaType, "User-Agent": w.userAgent,
		"Webhook-Id": id, "Webhook-Timestamp": timestamp, "Webhook-Signature": w.sign(id, timestamp, body),
		"Audit-First-Sequence": strconv.FormatInt(first.Sequence, 10), "Audit-Last-Sequence": strconv.FormatInt(last.Sequence, 10),
	} {
		request.Header.Set(name, value)
	}
	return request, nil
}

// sign gives a signature with each key.
func (w *Webhook) sign(id, timestamp string, body []byte) string {
	var all []byte
	for i, key := range w.keys {
		mac := hmac.New(sha256.New, key)
		_, _ = mac.Write([]byte(id + "." + timestamp + ".")) // never fails
		_, _ = mac.Write(body)
		if i > 0 {
			all = append(all, ' ')
		}
		all = base64.StdEncoding.AppendEncode(append(all, "v1,"...), mac.Sum(nil))
	}
	return string(all)
}

// Refused says that a receiver did not take a batch.
type Refused struct {
	Status int
	// RetryAfter is how long the receiver asks to be left alone; zero where it does
	// not say.
	RetryAfter time.Duration
}

// Error names the status.
func (r *Refused) Error() string {
	return "the webhook answered " + strconv.Itoa(r.Status) + " " + http.StatusText(r.Status)
}

// mostPatience is the longest that a receiver can put us off.
const mostPatience = time.Hour

// retryAfter reads a Retry-After (RFC 9110 §10.2.3): seconds, or a date.
func retryAfter(text string, now time.Time) time.Duration {
	var d time.Duration
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		d = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		d = at.Sub(now)
	}
	return min(max(d, 0), mostPatience)
}
