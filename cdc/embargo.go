package cdc

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"newswire/fanout/journal"
)

// embargo is what the listener's goroutines tell each other about rows that
// wait for their time.
type embargo struct {
	moved chan struct{} // apply pokes, probe receives; never closed

	mu    sync.Mutex  // guards the rest
	count int         // rows that wait
	first instant     // time of the first of them; never without one
	due   journal.LSN // commit of the last message that made rows go out
}

func newEmbargo() *embargo { return &embargo{moved: make(chan struct{}, 1), first: never} }

// passed notes what a commit, which the journal has taken, has changed.
func (e *embargo) passed(moved int, due journal.LSN) {
	e.mu.Lock()
	e.count += moved
	e.due = max(e.due, due)
	e.mu.Unlock()
	select {
	case e.moved <- struct{}{}:
	default: // the token is there already
	}
}

// recount begins anew with what the journal holds.
func (e *embargo) recount(j Journal) error {
	n := 0
	first := never
	err := j.Rows(dueSpace, func(entry, _ []byte) error {
		n++
		if first != never {
			return nil
		}
		due, _, err := splitDue(entry)
		first = due
		return err
	})
	if err != nil {
		return fmt.Errorf("count the articles that wait: %w", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.count, e.first, e.due = n, first, 0
	return nil
}

// look finds the first time that a row waits for, and the commit of the last
// message that made rows go out.
func (e *embargo) look(j Journal) (first instant, due journal.LSN, err error) {
	e.mu.Lock()
	due = e.due // first: what it made go out is not found then
	e.mu.Unlock()
	first = never
	err = j.Rows(dueSpace, func(entry, _ []byte) error {
		if first, _, err = splitDue(entry); err != nil {
			return err
		}
		return errEnough
	})
	if err != nil && !errors.Is(err, errEnough) {
		return never, due, fmt.Errorf("look for the next article that waits: %w", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.first = first
	return first, due, nil
}

// Waiting tells how many articles wait for their time and when the first of
// them goes out; the time is zero when none waits.
func (l *Listener) Waiting() (n int, first time.Time) {
	e := l.embargo
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.count > 0 && e.first != never { // which may be looked for again
		first = e.first.time()
	}
	return max(e.count, 0), first
}

// How long dueTimer waits before it tries again what has failed. A server that
// cannot be reached ends the stream, and the next one begins with a new try.
const (
	dueRetry   = time.Second
	dueRefused = time.Minute
)

// dueTimer writes a message into the log when the first time that rows wait for
// has come by the server's clock. What goes out, and when, is decided by the
// message's commit, which comes back through the slot: so a repeat after a
// crash decides the same. One timer serves all; probe owns it.
type dueTimer struct {
	l       *Listener
	timer   *time.Timer
	ahead   time.Duration // of the server's clock before ours, as last seen
	written journal.LSN   // of our last message; 0: none in this stream
}

func newDueTimer(l *Listener) *dueTimer {
	t := &dueTimer{l: l, timer: time.NewTimer(time.Hour)}
	t.timer.Stop()
	return t
}

// clock notes what the server's clock said between two moments of ours.
func (t *dueTimer) clock(began time.Time, server time.Time) {
	t.ahead = server.Sub(began.Add(time.Since(began) / 2).Round(0))
}

// set looks which time comes first, and waits for it. While a message of ours
// is still on its way through the slot, what it makes go out is not due again.
func (t *dueTimer) set(ctx context.Context) {
	first, due, err := t.l.embargo.look(t.l.journal)
	switch {
	case err != nil:
		t.l.log.WarnContext(ctx, "cannot tell which article goes out next; trying again", "err", err)
		t.timer.Reset(dueRetry)
	case first == never || t.written > due:
		t.timer.Stop()
	default:
		t.timer.Reset(max(0, first.time().Sub(time.Now().Add(t.ahead))))
	}
}

// fire writes the message, unless the server's clock is not there yet.
func (t *dueTimer) fire(ctx context.Context, c *catalog) {
	first, due, err := t.l.embargo.look(t.l.journal)
	if err != nil || first == never || t.written > due {
		t.set(ctx)
		return
	}
	began := time.Now()
	written, server, err := c.emitDue(ctx, first)
	switch pgCode(err) {
	case codeInsufficientPrivilege, codeReadOnly, codeNotReady:
		t.l.log.WarnContext(ctx, "articles whose time has come cannot go out: the server refuses pg_logical_emit_message; grant EXECUTE on it, or point postgres.dsn at the primary", "err", err)
		t.timer.Reset(dueRefused)
		return
	}
	if err != nil {
		t.l.log.DebugContext(ctx, "cannot write that a time has come; trying again", "err", err)
		t.timer.Reset(dueRetry)
		return
	}
	t.clock(began, server)
	t.written = max(t.written, written)
	t.set(ctx)
}

// emitDue writes the message once the server's clock has reached a time. It
// gives 0 before that, and always what the clock said.
func (c *catalog) emitDue(ctx context.Context, first instant) (written journal.LSN, server time.Time, err error) {
	due := strconv.FormatInt(int64(first), 10)
	// It need not wait for a standby: the slot brings it as soon as it is flushed here.
	const begin = "BEGIN READ WRITE; SET LOCAL synchronous_commit = local; "
	query := begin + "SELECT now, CASE WHEN now >= " + due + " THEN" +
		" pg_catalog.pg_logical_emit_message(true, '" + duePrefix + "', now::text) - '0/0'::pg_lsn END" +
		" FROM (SELECT " + serverClock + " AS now) AS clock; COMMIT"
	err = c.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		results, err := conn.PgConn().Exec(ctx, query).ReadAll()
		if err != nil {
			c.close() // its transaction is broken
			return err
		}
		for _, r := range results {
			if len(r.Rows) != 1 {
				continue
			}
			now, err := strconv.ParseInt(string(r.Rows[0][0]), 10, 64)
			if err != nil {
				return err
			}
			server = instant(now).time()
			if at := r.Rows[0][1]; at != nil {
				lsn, err := strconv.ParseUint(string(at), 10, 64)
				if err != nil {
					return err
				}
				written = journal.LSN(lsn)
			}
		}
		return nil
	})
	if err != nil {
		return 0, time.Time{}, fmt.Errorf("write that a time has come: %w", err)
	}
	return written, server, nil
}
