package ack

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"newswire/fanout/journal"
)

// Run keeps the deadlines and writes the accounts until ctx ends; then it
// writes what is not written and returns. The error is the journal's.
func (l *Ledger) Run(ctx context.Context, c Courier) error {
	tick := time.NewTicker(l.tick())
	defer tick.Stop()
	var flush <-chan time.Time
	deadline := time.NewTimer(time.Hour)
	defer deadline.Stop()
	last := time.Now()
	for {
		deadline.Reset(l.untilDue())
		if flush == nil && l.isDirty() {
			flush = time.After(flushAfter)
		}
		select {
		case <-l.wake:
		case <-tick.C:
		case <-deadline.C:
		case <-flush:
			flush = nil
			if err := l.flush(false); err != nil {
				return err
			}
		case <-ctx.Done():
			return l.flush(true)
		}
		now := time.Now()
		// The monotonic clock stands still while the machine sleeps, the wall
		// clock does not.
		away := max(now.Sub(last), now.Round(0).Sub(last.Round(0)))
		if away > l.tick()+max(l.cfg.Timeout/2, time.Second) {
			l.wokeUp(now)
		}
		last = now
		l.fall(now, c)
	}
}

// tick is how often Run looks at the clock, to notice that the process slept.
func (l *Ledger) tick() time.Duration {
	return min(max(l.cfg.Timeout/4, 25*time.Millisecond), time.Second)
}

func (l *Ledger) wokeUp(now time.Time) {
	l.log.Warn("the process did not run for a while: deadlines wait one ack timeout")
	l.mu.Lock()
	defer l.mu.Unlock()
	l.graceLocked(now)
}

func (l *Ledger) isDirty() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.listed)+len(l.added) > 0
}

// Bounds of one update, well within what the journal takes at once.
const (
	maxFlush        = 1 << 20 // bytes
	maxFlushEntries = 5000    // each up to three records; and as many cancels
)

// flush writes every account that has changed. Settled ones wait for the
// record of their audience, which the router writes in its own time: the note
// that a message is settled must not come before the one that it is open. At
// the end there is nothing to wait for.
func (l *Ledger) flush(last bool) error {
	recorded := journal.Seq(math.MaxUint64)
	if !last {
		err := l.j.View(func(v journal.View) error {
			key, ok, err := v.Last(journal.SpaceAudience)
			if recorded = 0; ok {
				recorded = journal.SeqOf(key)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("write ledger: %w", err)
		}
	}
	for {
		u, written := l.takeListed(recorded)
		if u.Empty() {
			l.release(written)
			return nil
		}
		// Not with the caller's context: what was taken off the list is written,
		// or the journal's error is returned.
		err := l.j.Apply(context.Background(), u, func(err error) {
			if err == nil {
				l.release(written)
			}
		})
		if err != nil {
			return fmt.Errorf("write ledger: %w", err)
		}
	}
}

// takeListed gives the next update, and the entries that it brings up to date.
// Cancels come first: an account that was read late is never durable without
// its cancel.
func (l *Ledger) takeListed(recorded journal.Seq) (u journal.Update, written []*entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(len(l.added), maxFlushEntries)
	for _, c := range l.added[:n] {
		storeCancel(&u, c)
	}
	l.added = slices.Clone(l.added[n:])
	if len(l.added) > 0 {
		return u, nil
	}
	var rest []*entry
	for _, e := range l.listed {
		if len(written) == maxFlushEntries || u.Size() >= maxFlush || e.settled() && e.seq > recorded {
			rest = append(rest, e)
			continue
		}
		if e.dirty {
			storeProgress(&u, e)
		}
		e.dirty, e.listed = false, false
		e.writing++
		written = append(written, e)
	}
	l.listed = rest
	return u, written
}

// release lets go of entries that are settled and durable.
func (l *Ledger) release(written []*entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range written {
		e.writing--
		if e.settled() && !e.listed && e.writing == 0 && len(e.givenUp) == 0 && l.entries[e.seq] == e {
			delete(l.entries, e.seq)
			delete(l.ids, e.id)
			l.released++
			l.releases++
		}
	}
	if l.released >= len(l.open)/2 {
		l.open = slices.DeleteFunc(l.open, func(e *entry) bool { return l.entries[e.seq] != e })
		l.released = 0
	}
}
