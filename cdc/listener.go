// Package cdc reads committed transactions from a PostgreSQL logical
// replication slot and gives each of them, whole and in commit order, to the
// journal. It confirms to the slot only what the journal has made durable, so
// whatever a crash takes away PostgreSQL sends again; a repeat carries the
// same message ids and changes nothing.
package cdc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"newswire/fanout/journal"
)

// Journal keeps what the listener reads.
type Journal interface {
	// Append gives the commit its place; it returns when the commit is
	// accepted, before the sync, and blocks while the journal's queue is full.
	// A commit at or below the last one is taken silently without effect.
	Append(ctx context.Context, c journal.Commit) error
	// Spool stores a part of a commit whose end has not been read; Append of
	// the rest, which tells how many parts there were, commits them all.
	Spool(ctx context.Context, c journal.Commit) error
	// DropSpool forgets what was spooled of a commit whose end will not come.
	DropSpool(ctx context.Context) error
	// Advance notes that everything up to lsn was read and made no message.
	Advance(ctx context.Context, lsn journal.LSN) error
	// Confirmed is the position up to which everything is synced: all that
	// may be reported to the slot. 0: nothing yet.
	Confirmed() journal.LSN
	// Accepted is the position up to which everything was taken, synced or not.
	Accepted() journal.LSN
	// Full tells why Append and Spool wait although nothing is wrong with the
	// journal: there is no room on its disk. nil when they do not.
	Full() error
	// Source is the history read so far; ok is false for an empty journal.
	Source() (s journal.Source, ok bool)
	// SetSource records what more is known of the history, synced when it
	// returns; what was read stays read.
	SetSource(ctx context.Context, s journal.Source) error
	// Rebase records that the journal goes on with another history, or further
	// on in its own: from lsn on, synced when it returns.
	Rebase(ctx context.Context, s journal.Source, lsn journal.LSN) error
	// Row gives what the journal remembers of a row behind all commits that it
	// has accepted and what is spooled; Rows calls each for all whose key
	// begins with prefix, as they stand when it is called.
	Row(key []byte) (state []byte, ok bool, err error)
	Rows(prefix []byte, each func(key, state []byte) error) error
	// FillRows records what is to be remembered of rows outside of any commit,
	// synced when it returns.
	FillRows(ctx context.Context, rows func(yield func(journal.Row) bool)) error
	// MessageByID gives a message, a spooled one too; kept is false for one
	// that is not there, or no longer.
	MessageByID(id journal.ID) (m *journal.Message, kept bool, err error)
}

// Backoff between two tries to open the stream: full jitter below a limit that
// doubles. Half a dozen tries reach the upper limit, so a server that comes
// back is noticed within five seconds and is never stormed.
const (
	backoffFirst = 100 * time.Millisecond
	backoffMost  = 5 * time.Second
)

// Listener follows one slot.
type Listener struct {
	cfg     Config       // fixed by New
	tables  []*table     // fixed by New
	journal Journal      // fixed by New
	log     *slog.Logger // fixed by New
	metrics *metrics     // fixed by New
	limits  limits       // fixed by New

	embargo *embargo // fixed by New

	beatsRefused atomic.Bool // the server takes no heartbeats: told once, not asked again

	stateMu sync.Mutex // guards the rest
	state   error      // why the slot does not stream; nil while it does
	lack    error      // what keeps rows out of a slot that streams; nil: nothing

	unpublished []string // changes that the publication leaves out, as told last
}

var (
	errUnopened = errors.New("the replication slot has not been opened yet")
	errLetGo    = errors.New("the replication slot is not read: it is being resynced, or the engine stops")
)

// New checks the configuration and starts nothing.
func New(cfg Config, j Journal, log *slog.Logger, reg prometheus.Registerer) (*Listener, error) {
	tables, err := cfg.compile()
	if err != nil {
		return nil, err
	}
	l := &Listener{
		cfg:     cfg,
		tables:  tables,
		journal: j,
		log:     log.With("slot", cfg.Slot),
		metrics: newMetrics(reg),
		embargo: newEmbargo(),
		limits:  usualLimits(),
		state:   errUnopened,
	}
	l.metrics.waits(reg, l.Waiting)
	return l, nil
}

// Ready is nil while the slot streams what is mapped, else the reason why it
// does not.
func (l *Listener) Ready() error {
	l.stateMu.Lock()
	defer l.stateMu.Unlock()
	if l.state == nil {
		return l.lack
	}
	return l.state
}

// setState keeps the reason and tells whether it is news: the same sentence
// twice is logged once.
func (l *Listener) setState(state error) (changed bool) {
	l.stateMu.Lock()
	defer l.stateMu.Unlock()
	changed = (state == nil) != (l.state == nil) ||
		state != nil && state.Error() != l.state.Error()
	l.state = state
	return changed
}

// setLack is setState for what a slot that streams does not give.
func (l *Listener) setLack(lack error) (changed bool) {
	l.stateMu.Lock()
	defer l.stateMu.Unlock()
	changed = (lack == nil) != (l.lack == nil) ||
		lack != nil && lack.Error() != l.lack.Error()
	l.lack = lack
	return changed
}

// Run follows the slot until ctx ends, then it returns nil. It reconnects by
// itself; an error is one that a reconnect cannot heal, such as ErrGap, and
// Ready keeps telling it.
func (l *Listener) Run(ctx context.Context) error {
	l.setState(errUnopened) // what ended the last one may have been mended
	limit := backoffFirst
	for {
		held, err := l.follow(ctx)
		if ctx.Err() != nil {
			l.setState(errLetGo)
			return nil
		}
		changed := l.setState(err)
		if isFatal(err) {
			return err
		}
		if held > backoffMost {
			limit = backoffFirst
		}
		if changed {
			l.log.WarnContext(ctx, "replication interrupted", "err", err)
		}
		if !pause(ctx, rand.N(limit)) || errors.Is(err, errStuck) && !l.recovered(ctx) {
			return nil
		}
		limit = min(2*limit, backoffMost)
	}
}

// follow opens the slot and serves it until something ends it; held is for how
// long.
func (l *Listener) follow(ctx context.Context) (held time.Duration, err error) {
	c := &catalog{cfg: l.cfg, log: l.log}
	defer c.close()
	s, err := l.open(ctx, c)
	if err != nil {
		return 0, err
	}
	l.inspect(ctx, c)
	l.setState(nil)
	l.log.InfoContext(ctx, "replication started", "lsn", s.from)
	began := time.Now()
	err = s.run(ctx)
	return time.Since(began), err
}

// pause waits and tells whether ctx lives on.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// ErrGap reports commits that the slot can no longer give: the journal and
// PostgreSQL do not follow each other. `newswire resync` mends it.
var ErrGap = errors.New("the slot cannot continue the journal")

// ErrUnreachable reports a server that does not answer; it may come later.
var ErrUnreachable = errors.New("PostgreSQL cannot be reached")

// ErrMapping reports a table that no longer has what the configuration maps.
var ErrMapping = errors.New("the mapping does not fit the table")

// isFatal tells what trying again would only repeat.
func isFatal(err error) bool {
	for _, fatal := range []error{ErrGap, ErrMapping, ErrTruncated, ErrMalformed} {
		if errors.Is(err, fatal) {
			return true
		}
	}
	return false
}

// gap tells in a sentence what is missing.
func gap(format string, args ...any) error {
	return fmt.Errorf("%w: %s; run `newswire resync`", ErrGap, fmt.Sprintf(format, args...))
}
