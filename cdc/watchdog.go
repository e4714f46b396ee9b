package cdc

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"newswire/fanout/journal"
)

// limits say how long the listener bears what does not move. Tests shorten it.
type limits struct {
	// stuck is for one step of the work, and for the journal's sync: several
	// wal_sender_timeouts, and longer than a disk hiccups or a large row takes.
	// Beyond it a slot that is held is worse than one that is let go: whoever
	// watches the server takes a reader for a working one.
	stuck time.Duration
	// poll is how often the slot is looked at for the metrics, and the
	// publication: a few rows of the catalogs, so it costs the server nothing
	// that shows.
	poll time.Duration
	// silence goes on top of wal_sender_timeout, after which the server itself
	// would have ended the stream.
	silence time.Duration
}

func usualLimits() limits {
	return limits{stuck: 5 * time.Minute, poll: 5 * time.Second, silence: 10 * time.Second}
}

// errStuck reports a stream that was ended because what it gave was not taken.
var errStuck = errors.New("intake stands still")

// pace is how apply tells the watchdog of its work.
type pace struct {
	busy  atomic.Bool   // apply is at work, and does not wait for the server
	steps atomic.Uint64 // what it has done
}

// paced counts everything that the journal takes as a step, too. Slow is not
// stuck: a TRUNCATE that takes an hour to store moves at each part.
type paced struct {
	Journal
	pace *pace
}

func (p paced) step(err error) error {
	p.pace.steps.Add(1)
	return err
}

func (p paced) Append(ctx context.Context, c journal.Commit) error {
	return p.step(p.Journal.Append(ctx, c))
}

func (p paced) Spool(ctx context.Context, c journal.Commit) error {
	return p.step(p.Journal.Spool(ctx, c))
}

// pacedShapes counts every answer of the database as a step.
type pacedShapes struct {
	shapes
	pace *pace
}

func (p pacedShapes) ask(ctx context.Context, q question) ([]*answer, error) {
	answers, err := p.shapes.ask(ctx, q)
	p.pace.steps.Add(1)
	return answers, err
}

func (p pacedShapes) reread(ctx context.Context, xid uint32, n name, key []keyValue, column string) ([]byte, bool, error) {
	text, null, err := p.shapes.reread(ctx, xid, n, key, column)
	p.pace.steps.Add(1)
	return text, null, err
}

// watchdog notices work that does not move. The report goroutine owns it.
type watchdog struct {
	patience time.Duration // fixed
	pace     *pace         // fixed
	journal  Journal       // fixed

	steps     uint64      // as they were when looked at last
	confirmed journal.LSN // likewise
	working   time.Time   // since when apply has been at the present step; zero: at none
	syncing   time.Time   // since when the journal has synced nothing of what it accepted; zero: it has all
}

// look is nil while everything moves, or there is nothing to move.
func (w *watchdog) look(now time.Time) error {
	steps, confirmed := w.pace.steps.Load(), w.journal.Confirmed()
	full := w.journal.Full() != nil // then the slot is held: it is this disk that waits, and to read again would not help
	w.working = standing(w.working, now, w.pace.busy.Load() && !full, steps != w.steps)
	w.syncing = standing(w.syncing, now, confirmed < w.journal.Accepted() && !full, confirmed != w.confirmed)
	w.steps, w.confirmed = steps, confirmed
	switch {
	case !w.working.IsZero() && now.Sub(w.working) > w.patience:
		return fmt.Errorf("%w: nothing of what the slot gives was taken for %s, so the slot was let go", errStuck, w.patience)
	case !w.syncing.IsZero() && now.Sub(w.syncing) > w.patience:
		return fmt.Errorf("%w: the journal has synced nothing for %s, so the slot was let go", errStuck, w.patience)
	}
	return nil
}

// standing gives since when work has not moved.
func standing(since, now time.Time, work, moved bool) time.Time {
	switch {
	case !work:
		return time.Time{}
	case moved || since.IsZero():
		return now
	}
	return since
}

// recovered waits until the journal syncs again what it has accepted. Before,
// the slot would only be held as it was.
func (l *Listener) recovered(ctx context.Context) bool {
	for stood := l.journal.Confirmed(); l.journal.Confirmed() == stood && l.journal.Accepted() > stood; {
		if !pause(ctx, settle) {
			return false
		}
	}
	return true
}
