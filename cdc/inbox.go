package cdc

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pglogrepl"

	"newswire/fanout/journal"
)

// Bounds of what is decoded before the journal has taken it: enough to hide
// its hiccups, little enough that rows of a megabyte fit into memory.
const (
	inboxEvents = 1024
	inboxBytes  = 1 << 20
)

// event is one thing that the server has sent: a message, or a keepalive.
type event struct {
	message pglogrepl.Message // nil for a keepalive
	sent    journal.LSN       // of a keepalive: all before it has been sent
	bytes   int               // that it took on the wire
}

// handOver is how many events are handed over at once while more of what was
// read is being decoded.
const handOver = 256

// In a flood the socket is left alone while there is work to do, and for a moment
// where there was little: a server whose every packet wakes its reader spends as
// much on that as on the packet, and so does the reader.
const (
	floodFrom  = 16                     // events since the socket was read before
	leftAlone  = 5 * time.Millisecond   // at most: a socket's buffer is full by then
	floodEvery = 25 * time.Microsecond  // events that come more often are a flood, however few at a time
	floodSpan  = 5 * time.Millisecond   // over which they are counted
	moment     = 100 * time.Microsecond // a quarter of what fills a socket's buffer with small rows
)

// inbox hands events from one goroutine to another, as many at a time as there
// are: what comes one by one is not delayed, and a flood costs one hand-over
// for hundreds of rows.
type inbox struct {
	filled chan struct{}       // holds a token while there may be events
	room   chan struct{}       // holds a token when room may have come
	idle   chan struct{}       // holds a token when all was done that was put
	pause  func(time.Duration) // fixed

	// Owned by the one who adds.
	added  int       // since flush
	lately int       // likewise, since the time that follows
	since  time.Time // when it was looked last whether they are a flood
	flood  bool      // they were

	mu     sync.Mutex // guards the rest
	events []event
	bytes  int
}

func newInbox() *inbox {
	return &inbox{filled: make(chan struct{}, 1), room: make(chan struct{}, 1), idle: make(chan struct{}, 1), pause: doze}
}

// add adds an event, and waits before while there are too many, which it tells.
// One goroutine adds; it calls flush when it has no more for now.
func (b *inbox) add(ctx context.Context, e event) (waited bool, err error) {
	for {
		b.mu.Lock()
		if len(b.events) < inboxEvents && b.bytes < inboxBytes {
			break
		}
		b.mu.Unlock()
		signal(b.filled)
		waited = true
		select {
		case <-b.room:
		case <-ctx.Done():
			return waited, ctx.Err()
		}
	}
	defer b.mu.Unlock()
	b.added++
	select {
	case <-b.idle:
	default:
	}
	b.events = append(b.events, e)
	b.bytes += e.bytes
	if len(b.events)%handOver == 0 {
		signal(b.filled)
	}
	return waited, nil
}

// flush hands over what was added. In a flood it waits a while until it is done, or
// until more of it has come.
func (b *inbox) flush() {
	added := b.added
	b.added = 0
	if added == 0 {
		return
	}
	signal(b.filled)
	flood := b.count(added, time.Now())
	switch {
	case added >= floodFrom:
		timer := time.NewTimer(leftAlone)
		defer timer.Stop()
		select {
		case <-b.idle:
		case <-timer.C:
		}
	case flood:
		b.pause(moment)
	}
}

// count tells whether as many events as were counted lately are a flood.
func (b *inbox) count(added int, now time.Time) bool {
	b.lately += added
	if span := now.Sub(b.since); span >= floodSpan {
		b.flood = time.Duration(b.lately)*floodEvery >= span
		b.lately, b.since = 0, now
	}
	return b.flood
}

// rest tells that what was taken is done.
func (b *inbox) rest() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.events) == 0 {
		signal(b.idle)
	}
}

// take gives all events there are, in order. It puts next ones into into, which
// the caller has done with.
func (b *inbox) take(into []event) []event {
	clear(into) // or the array would keep the rows alive
	b.mu.Lock()
	events := b.events
	b.events, b.bytes = into[:0], 0
	b.mu.Unlock()
	signal(b.room)
	return events
}

// signal puts a token where none is.
func signal(tokens chan<- struct{}) {
	select {
	case tokens <- struct{}{}:
	default:
	}
}
