package ack

import (
	"container/heap"
	"fmt"
	"time"

	"newswire/fanout/journal"

	"github.com/RoaringBitmap/roaring/v2"
)

// wait is a deadline of some readers of one message.
type wait struct {
	entry   *entry
	due     time.Time
	tries   int             // deadlines that have passed for them
	readers *roaring.Bitmap // nil: the whole audience
}

// waitHeap holds waits by due.
type waitHeap []wait

func (h waitHeap) Len() int      { return len(h) }
func (h waitHeap) Swap(a, b int) { h[a], h[b] = h[b], h[a] }
func (h *waitHeap) Push(w any)   { *h = append(*h, w.(wait)) }

// Less keeps the journal's order among deadlines that fall together, so that
// retries and hand-overs keep it too.
func (h waitHeap) Less(a, b int) bool {
	if c := h[a].due.Compare(h[b].due); c != 0 {
		return c < 0
	}
	return h[a].entry.seq < h[b].entry.seq
}

func (h *waitHeap) Pop() any {
	last := len(*h) - 1
	w := (*h)[last]
	(*h)[last] = wait{}
	*h = (*h)[:last]
	return w
}

// add tells whether the new wait is the first to fall.
func (h *waitHeap) add(w wait) (first bool) {
	heap.Push(h, w)
	return (*h)[0].entry == w.entry && (*h)[0].due.Equal(w.due)
}

// noneBefore moves every wait to at least due.
func (h *waitHeap) noneBefore(due time.Time) {
	for i := range *h {
		if (*h)[i].due.Before(due) {
			(*h)[i].due = due
		}
	}
	heap.Init(h)
}

// untilDue is how long nothing falls.
func (l *Ledger) untilDue() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.armed || len(l.waits) == 0 {
		return time.Hour
	}
	return max(0, time.Until(l.waits[0].due))
}

// mostFalls is how many deadlines are acted on at a time: after a start all
// fall together, and what they wake shall sleep again.
const mostFalls = 256

// fall acts on the deadlines that have come. The error is the journal's.
func (l *Ledger) fall(now time.Time, c Courier) error {
	for range mostFalls {
		l.mu.Lock()
		if !l.armed || len(l.waits) == 0 || l.waits[0].due.After(now) {
			l.mu.Unlock()
			return nil
		}
		w := heap.Pop(&l.waits).(wait)
		of := w.readers
		if of == nil {
			of = w.entry.audience
		}
		due := w.entry.waiting(of)
		l.mu.Unlock()
		if due.IsEmpty() {
			continue
		}
		presence := c.Presence(due, l.cfg.Timeout) // not under the lock: it asks the pools
		resends, err := l.judge(w, due, presence, now)
		if err != nil {
			return fmt.Errorf("judge message %d: %w", w.entry.seq, err)
		}
		for _, again := range resends {
			c.Resend(w.entry.seq, again.n, again.readers)
			l.m.retried(again.n, again.readers)
		}
	}
	l.poke() // there may be more
	return nil
}

// resend is an attempt to be made for some readers.
type resend struct {
	n       int
	readers *roaring.Bitmap
}

// judge decides for each reader whose deadline has come: wait on, send again,
// or give up.
func (l *Ledger) judge(w wait, due *roaring.Bitmap, p Presence, now time.Time) (again []resend, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := w.entry
	if e.asleep {
		if err := l.wakeLocked(e); err != nil {
			return nil, err
		}
	}
	for _, g := range e.groups(e.waiting(due)) { // acknowledgements may have come meanwhile
		l.postponeLocked(w, &g, p, now)
		if g.readers.IsEmpty() {
			continue
		}
		here := roaring.And(g.readers, p.Connected)
		away := roaring.AndNot(g.readers, p.Connected)
		switch {
		case g.n == 0:
			l.giveUpLocked(e, ReasonSlowReader, here, now)
			l.giveUpLocked(e, ReasonDisconnected, away, now)
		case max(g.n-1, w.tries) >= l.cfg.Retries:
			l.giveUpLocked(e, ReasonAckTimeout, g.readers, now)
		default:
			l.giveUpLocked(e, ReasonAckTimeout, away, now)
			if !here.IsEmpty() {
				again = append(again, resend{g.n + 1, here})
				l.waits.add(wait{e, now.Add(l.cfg.wait(g.n + 1)), w.tries + 1, here})
			}
		}
	}
	return again, nil
}

// postponeLocked takes those out of a group whose time has not come after all,
// and gives them a new deadline: who was sent a replay since, who has just
// come, and who has been away for less than an ack timeout. Who flaps without
// end is not waited for without end.
func (l *Ledger) postponeLocked(w wait, g *group, p Presence, now time.Time) {
	if !now.Before(l.limitLocked(w.entry)) {
		return
	}
	later := make(map[time.Duration]*roaring.Bitmap)
	postpone := func(r uint32, left time.Duration) {
		left = left.Truncate(10*time.Millisecond) + 10*time.Millisecond
		if later[left] == nil {
			later[left] = roaring.New()
		}
		later[left].Add(r)
		g.readers.Remove(r)
	}
	if g.n > 0 {
		// A send from the future was noted before the machine's clock was set back.
		if left := l.cfg.wait(g.n) - max(0, now.Sub(g.at)); left > time.Millisecond {
			l.waits.add(wait{w.entry, now.Add(left), w.tries, g.readers})
			g.readers = roaring.New()
			return
		}
	}
	for r, changed := range p.Changed {
		if !g.readers.Contains(uint32(r)) {
			continue
		}
		has := l.cfg.Timeout
		if here := p.Connected.Contains(uint32(r)); here && g.n > 0 {
			if changed.Before(g.at) {
				continue // it was sent on this connection
			}
			has = l.cfg.wait(g.n)
		}
		if left := has - now.Sub(changed); left > 0 {
			postpone(uint32(r), left)
		}
	}
	for left, readers := range later {
		l.waits.add(wait{w.entry, now.Add(left), w.tries, readers})
	}
}

// limitLocked is when nobody is waited for any longer. Who is first written to
// just before the first deadline still has the time of all attempts.
func (l *Ledger) limitLocked(e *entry) time.Time {
	from := e.opened
	if l.graced.After(from) {
		from = l.graced
	}
	return from.Add(l.cfg.Timeout + l.cfg.total())
}

// giveUpLocked puts readers on the way to Kafka.
func (l *Ledger) giveUpLocked(e *entry, why Reason, readers *roaring.Bitmap, now time.Time) {
	if readers.IsEmpty() {
		return
	}
	g := &giveUp{entry: e, reason: why, at: now, readers: readers, flight: roaring.New(), told: roaring.New()}
	e.givenUp = append(e.givenUp, g)
	l.outbox = append(l.outbox, g)
	l.listLocked(e) // it may sleep
	l.offer()
}

// offer makes Next look for work.
func (l *Ledger) offer() {
	select {
	case l.supply <- struct{}{}:
	default: // the token is there already
	}
}

// flown is one hand-over that the sender has.
type flown struct {
	g       *giveUp
	reader  journal.Reader
	doubted bool // it was in doubt before
}
