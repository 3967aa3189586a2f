package request

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
)

// Info is what is known of one request. It is safe for concurrent use.
type Info struct {
	ID     string
	Source netip.Addr

	mu       sync.Mutex
	attrs    []slog.Attr
	room     [8]slog.Attr // for attrs: what most requests note
	sourceIP string
}

type infoKey struct{}

// With gives a context that carries the info.
func With(ctx context.Context, info *Info) context.Context {
	return context.WithValue(ctx, infoKey{}, info)
}

// From gives the info of the request that ctx belongs to; an empty one where it
// belongs to none.
func From(ctx context.Context) *Info {
	if info, ok := ctx.Value(infoKey{}).(*Info); ok {
		return info
	}
	return &Info{}
}

// Note adds to the request's log line.
func Note(ctx context.Context, attrs ...slog.Attr) {
	info := From(ctx)
	info.mu.Lock()
	defer info.mu.Unlock()
	if info.attrs == nil {
		info.attrs = info.room[:0]
	}
	info.attrs = append(info.attrs, attrs...)
}

// Attrs gives what was noted so far.
func (i *Info) Attrs() []slog.Attr {
	i.mu.Lock()
	defer i.mu.Unlock()
	return append([]slog.Attr(nil), i.attrs...)
}

// SourceIP gives the source address as text, empty where it is not known.
func (i *Info) SourceIP() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.sourceIP == "" && i.Source.IsValid() {
		i.sourceIP = i.Source.String()
	}
	return i.sourceIP
}

// Budget is the state of a limit after a request took from it. Where Limit is
// zero there is none.
type Budget struct {
	Allowed bool
	// Limit is how much there is when nothing was taken, Remaining what is left.
	Limit, Remaining int64
	// RetryAfter is when there will be one again, Reset when there will be Limit.
	RetryAfter, Reset time.Duration
}

// Err gives RATE_LIMITED where nothing was left to take.
func (b Budget) Err() error {
	if b.Allowed {
		return nil
	}
	return &fault.Error{Kind: fault.RateLimited, Code: fault.CodeRateLimited, Message: "too many requests", RetryAfter: b.RetryAfter}
}

// Origin gives the request as the audit log sees it before anybody has been
// authenticated.
func Origin(ctx context.Context) audit.Origin {
	info := From(ctx)
	return audit.Origin{Actor: audit.Actor{Type: audit.TypeAnonymous}, RequestID: info.ID, SourceIP: info.SourceIP()}
}
