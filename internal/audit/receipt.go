package audit

import (
	"context"
	"sync"

	"github.com/google/uuid"
)

// Receipt learns the id of the event that a request is recorded by, so that the
// answer can name it. It is safe for concurrent use.
type Receipt struct {
	mu sync.Mutex
	id uuid.UUID
}

// ID is that of the event, uuid.Nil where none was recorded.
func (r *Receipt) ID() uuid.UUID {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.id
}

type receiptKey struct{}

// WithReceipt gives a context that carries a receipt.
func WithReceipt(ctx context.Context) (context.Context, *Receipt) {
	r := &Receipt{}
	return context.WithValue(ctx, receiptKey{}, r), r
}

// Receive tells the receipt that ctx carries, if any, which event is being recorded. A
// transaction that is done again tells it again.
func Receive(ctx context.Context, e Event) {
	if r, ok := ctx.Value(receiptKey{}).(*Receipt); ok {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.id = e.ID
	}
}
