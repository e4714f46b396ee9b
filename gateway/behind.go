package gateway

import (
	"context"
	"sync"
)

// behind is the sessions that are to read from the journal next. A few workers
// serve all of them, a step at a time, so that nobody who has much to catch up
// with holds up the others.
type behind struct {
	mu      sync.Mutex // guards waiting
	waiting []*session // in use and claimed: their writing goes on here
	more    chan struct{}
}

func newBehind() *behind { return &behind{more: make(chan struct{}, 1)} }

// add puts a session at the end.
func (b *behind) add(s *session) {
	s.queues.Store(true)
	b.mu.Lock()
	b.waiting = append(b.waiting, s)
	b.mu.Unlock()
	b.poke()
}

func (b *behind) poke() {
	select {
	case b.more <- struct{}{}:
	default: // somebody will look anyway
	}
}

// take gives the first one; nil when there is none.
func (b *behind) take() *session {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) == 0 {
		b.waiting = nil
		return nil
	}
	s := b.waiting[0]
	b.waiting[0] = nil
	if b.waiting = b.waiting[1:]; len(b.waiting) > 0 {
		b.poke()
	}
	return s
}

// work serves sessions until ctx ends.
func (b *behind) work(ctx context.Context) {
	for {
		s := b.take()
		if s == nil {
			select {
			case <-b.more:
				continue
			case <-ctx.Done():
				return
			}
		}
		s.heard.Store(int64(uptime())) // it was not pinged while it waited here
		s.queues.Store(false)
		s.step()
		s.write()
	}
}
