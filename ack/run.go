package ack

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"newswire/fanout/journal"
	"newswire/fanout/journal/fault"
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
		if err := l.fall(now, c); err != nil {
			return err
		}
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
	return len(l.listed)+len(l.added)+len(l.skips.ready) > 0 || l.retractableLocked() || slices.ContainsFunc(l.departures, l.landedLocked)
}

// flush writes every account that has changed, and works off what has come up.
// Settled accounts wait for the record of their audience, which the router
// writes in its own time: the note that a message is settled must not come
// before the one that it is open. At the end there is nothing to wait for, and
// what has come up waits for the next start.
func (l *Ledger) flush(last bool) (err error) {
	recorded := journal.Seq(math.MaxUint64)
	var retracted []journal.Seq
	if !last {
		if recorded, err = l.recorded(); err == nil {
			retracted, err = l.workOff(recorded)
		}
	}
	if err == nil {
		err = l.write(recorded)
	}
	if err == nil {
		err = l.apply(l.arrived(), nil)
	}
	for err == nil && len(retracted) > 0 { // behind the cancels that it has led to
		var u journal.Update
		for ; len(retracted) > 0 && !u.Full(); retracted = retracted[1:] {
			u.Delete(journal.SpaceRetracts.Seq(retracted[0]))
		}
		err = l.apply(u, nil)
	}
	if err == nil && !last {
		err = l.sumUp(recorded)
	}
	if err != nil {
		return fmt.Errorf("write ledger: %w", err)
	}
	return nil
}

// Flushed returns once the accounts as they are now are on disk. Run must be
// running.
func (l *Ledger) Flushed(ctx context.Context) error {
	select { // by then Run has taken what is on its list now
	case <-time.After(2 * flushAfter):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return l.j.ApplySync(ctx, journal.Update{}) // behind it in the queue
}

// write writes every account that has changed.
func (l *Ledger) write(recorded journal.Seq) error {
	for {
		u, written := l.takeListed(recorded)
		if u.Empty() {
			l.release(written)
			return nil
		}
		fault.Point(fault.SavingAcks)
		err := l.apply(u, func(err error) {
			if err == nil {
				fault.Point(fault.SavedAcks)
				l.release(written)
			}
		})
		if err != nil {
			return err
		}
	}
}

// apply queues an update. It does not end with the caller's context: what was
// taken off a list is written, or the journal's error is returned.
func (l *Ledger) apply(u journal.Update, done func(error)) error {
	if u.Empty() && done == nil {
		return nil
	}
	return l.j.Apply(context.Background(), u, done)
}

// takeListed gives the next update, and the entries that it brings up to date.
// Cancels come first: an account that was read late is never durable without
// its cancel. What has left with the retention is not written again.
func (l *Ledger) takeListed(recorded journal.Seq) (u journal.Update, written []*entry) {
	oldest := l.j.Oldest()
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for ; n < len(l.added) && !u.Full(); n++ {
		storeCancel(&u, l.added[n])
	}
	l.added = slices.Clone(l.added[n:])
	if len(l.added) > 0 {
		return u, nil
	}
	var rest []*entry
	for _, e := range l.listed {
		if u.Full() || e.settled() && e.seq > recorded {
			rest = append(rest, e)
			continue
		}
		if e.dirty && e.seq >= oldest && !storeChanges(&u, e) {
			rest = append(rest, e) // more of it comes with the next update
			continue
		}
		e.dirty, e.listed = false, false
		e.writing++
		written = append(written, e)
	}
	l.listed = rest
	return u, written
}

// release lets go of entries that are settled and durable, and puts to sleep
// those that only wait for Kafka.
func (l *Ledger) release(written []*entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range written {
		e.writing--
		if e.settled() && !e.listed && e.writing == 0 && len(e.givenUp) == 0 && l.entries[e.seq] == e {
			delete(l.entries, e.seq)
			delete(l.ids, e.id)
			l.forgetRowLocked(e)
			l.uncountLocked(e)
			l.released++
			l.releases++
		} else if e.maySleep() {
			e.sends, e.asleep = nil, true
		}
	}
	if len(l.departures) > 0 {
		l.poke()
	}
	if l.released >= len(l.open)/2 {
		l.open = slices.DeleteFunc(l.open, func(e *entry) bool { return l.entries[e.seq] != e })
		l.released = 0
	}
}
