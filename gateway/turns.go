package gateway

import (
	"context"
	"sync"

	"newswire/fanout/journal"
)

// turns lets the polls of one reader answer one after the other, and no reader
// wait for another's.
type turns struct {
	mu   sync.Mutex // guards the rest
	held map[journal.Reader]*turn
}

type turn struct {
	taken chan struct{} // holds a token while a poll answers
	polls int           // that answer or wait
}

// take waits for a reader's turn; give hands it on. ok is false when ctx ended
// first.
func (t *turns) take(ctx context.Context, r journal.Reader) (give func(), ok bool) {
	own := t.join(r)
	select {
	case own.taken <- struct{}{}:
		return func() { <-own.taken; t.leave(r, own) }, true
	case <-ctx.Done():
		t.leave(r, own)
		return nil, false
	}
}

func (t *turns) join(r journal.Reader) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	own := t.held[r]
	if own == nil {
		own = &turn{taken: make(chan struct{}, 1)}
		t.held[r] = own
	}
	own.polls++
	return own
}

func (t *turns) leave(r journal.Reader, own *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if own.polls--; own.polls == 0 {
		delete(t.held, r)
	}
}
