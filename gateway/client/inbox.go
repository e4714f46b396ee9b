package client

import (
	"context"
	"sync"
	"time"
)

const (
	remembered   = 4096   // handled ids kept to recognise repeats
	mostWaiting  = 256    // messages that wait for the handler; then the connection is read no further
	mostOpen     = 65_536 // messages whose handler runs or has failed, that hold the cursor back
	acksPerFrame = 256    // half a frame of the server's limit
	repeatAcks   = time.Minute
)

// inbox is what came and what became of it: it gives each message to the handler
// once, and keeps acknowledgements and cursor.
type inbox struct {
	cfg     Config        // fixed
	waiting chan *Message // take sends, handle receives; never closed

	mu      sync.Mutex      // guards the rest
	open    map[string]bool // whether it waits for the handler, or is with it; else that has failed
	dealt   map[string]bool
	order   []string // the ids of dealt, oldest first
	newest  string   // the highest id dealt with
	after   string   // everything up to here is dealt with
	floor   string   // up to here the server takes us for informed: only repeats can come
	acks    []string // to be sent
	written []ack    // on this or the last connection, lately
}

// ack is an acknowledgement that was written, and may be lost.
type ack struct {
	id string
	at time.Time
}

func newInbox(cfg Config) *inbox {
	return &inbox{
		cfg: cfg, waiting: make(chan *Message, mostWaiting), after: cfg.After,
		open: make(map[string]bool), dealt: make(map[string]bool),
	}
}

// take queues a message for the handler, unless it is there already or was dealt
// with: of the latter it is true, and the acknowledgement is due again. It
// blocks while very many wait, until ctx ends.
func (b *inbox) take(ctx context.Context, m *Message) (repeated bool) {
	b.mu.Lock()
	if b.dealt[m.ID] || m.ID <= b.floor {
		b.acks = append(b.acks, m.ID)
		b.mu.Unlock()
		return true
	}
	running := b.open[m.ID]
	b.open[m.ID] = true
	b.mu.Unlock()
	if running {
		return false // its handler will decide
	}
	select {
	case b.waiting <- m:
	case <-ctx.Done():
		b.failed(m.ID)
	}
	return false
}

// handle gives what waits to the handler until ctx ends; acked is called when
// there is something to acknowledge.
func (b *inbox) handle(ctx context.Context, acked func()) {
	for ctx.Err() == nil {
		select {
		case m := <-b.waiting:
			err := ctx.Err()
			if err == nil {
				err = b.cfg.OnMessage(ctx, m)
			}
			if err == nil && !b.cfg.Manual {
				b.handled(m.ID)
				acked()
			} else {
				b.failed(m.ID)
			}
		case <-ctx.Done():
		}
	}
}

// handled notes that a message was dealt with, and its acknowledgement.
func (b *inbox) handled(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.open, id)
	if !b.dealt[id] {
		b.dealt[id] = true
		b.order = append(b.order, id)
	}
	if len(b.order) > remembered {
		delete(b.dealt, b.order[0])
		b.order = b.order[1:]
	}
	b.newest = max(b.newest, id)
	if len(b.open) == 0 { // behind a cursor beyond something open the server would skip it
		b.after = max(b.after, b.newest)
	}
	b.acks = append(b.acks, id)
}

// failed lets a message come again. It stays open, so that the cursor waits for
// it, unless very many have failed.
func (b *inbox) failed(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, open := b.open[id]; !open {
		return // it was acknowledged by hand
	}
	b.open[id] = false
	if len(b.open) <= mostOpen {
		return
	}
	for other, running := range b.open {
		if !running {
			delete(b.open, other)
			return
		}
	}
}

// lost tells that the last acknowledgements may not have arrived: they are due
// again, which does no harm. What waits for the handler goes on waiting; the
// next session's replay finds it here.
func (b *inbox) lost() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range b.written {
		if time.Since(a.at) < repeatAcks {
			b.acks = append(b.acks, a.id)
		}
	}
	b.written = nil
}

// takeAcks gives what is to be acknowledged, in portions for frames.
func (b *inbox) takeAcks() (portions [][]string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	for len(b.written) > 0 && now.Sub(b.written[0].at) > repeatAcks {
		b.written = b.written[1:]
	}
	for len(b.acks) > 0 {
		n := min(len(b.acks), acksPerFrame)
		portions = append(portions, b.acks[:n:n])
		for _, id := range b.acks[:n] {
			b.written = append(b.written, ack{id, now})
		}
		b.acks = b.acks[n:]
	}
	return portions
}

func (b *inbox) cursor() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.after
}

// resumed learns what the server made of the cursor that the hello told it.
func (b *inbox) resumed(how, after string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch how {
	case "complete":
		b.floor = after
	case "gap": // ids may mean something else now
		b.floor, b.after, b.newest = "", "", ""
	}
}
