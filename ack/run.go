package ack

import (
	"context"
	"errors"
	"fmt"
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
			if err := l.flush(ctx); err != nil {
				return err
			}
		case <-ctx.Done():
			return l.flush(context.WithoutCancel(ctx))
		}
		now := time.Now()
		if now.Sub(last) > l.tick()+max(l.cfg.Timeout/2, time.Second) {
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
	return len(l.dirty)+len(l.added) > 0
}

// maxFlush bounds the bytes of one update.
const maxFlush = 1 << 20

// flush writes every account that has changed.
func (l *Ledger) flush(ctx context.Context) error {
	for {
		var u journal.Update
		l.mu.Lock()
		n := 0
		for n < len(l.dirty) && u.Size() < maxFlush {
			storeProgress(&u, l.dirty[n])
			l.dirty[n].dirty = false
			n++
		}
		written := l.dirty[:n:n]
		l.dirty = l.dirty[n:]
		for _, c := range l.added {
			storeCancel(&u, c)
		}
		l.added = nil
		l.mu.Unlock()
		if u.Empty() {
			return nil
		}
		err := l.j.Apply(ctx, u, func(err error) {
			if err == nil {
				l.release(written)
			}
		})
		if err != nil && !errors.Is(err, context.Cause(ctx)) {
			return fmt.Errorf("write ledger: %w", err)
		}
	}
}

// release lets go of entries that are settled and durable.
func (l *Ledger) release(written []*entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range written {
		if e.settled() && !e.dirty && len(e.givenUp) == 0 && l.entries[e.seq] == e {
			delete(l.entries, e.seq)
			delete(l.ids, e.id)
			l.released++
		}
	}
	if l.released >= len(l.open)/2 {
		l.open = slices.DeleteFunc(l.open, func(e *entry) bool { return l.entries[e.seq] != e })
		l.released = 0
	}
}
