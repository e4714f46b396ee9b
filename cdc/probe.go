package cdc

import (
	"context"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
)

// probe looks at the slot and writes heartbeats over a connection of its own.
// It never ends the stream: a server that refuses it still streams, and one
// that has gone is noticed by the stream itself.
func (l *Listener) probe(ctx context.Context) error {
	c := &catalog{cfg: l.cfg}
	defer c.close()
	poll := time.NewTicker(l.limits.poll)
	defer poll.Stop()
	var beats <-chan time.Time
	if l.cfg.Heartbeat > 0 {
		beat := time.NewTicker(l.cfg.Heartbeat)
		defer beat.Stop()
		beats = beat.C
	}
	due := newDueTimer(l)
	defer due.timer.Stop()
	l.poll(ctx, c, due) // the publication was looked at as the stream began
	for {
		select {
		case <-poll.C:
			l.poll(ctx, c, due)
			l.inspect(ctx, c)
		case <-l.embargo.moved:
			due.set(ctx)
		case <-due.timer.C:
			due.fire(ctx, c)
		case <-beats:
			if !l.beatsRefused.Load() {
				l.heartbeat(ctx, c)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// poll sets the gauges, and the timer of what is due by the server's clock.
// After a failure they keep their last values: the next poll is seconds away.
func (l *Listener) poll(ctx context.Context, c *catalog, due *dueTimer) {
	began := time.Now()
	s, err := c.slot(ctx)
	if err != nil || !s.exists {
		return
	}
	due.clock(began, s.now)
	due.set(ctx)
	l.metrics.retained.Set(float64(s.retained))
	l.metrics.safe.Set(math.Inf(1))
	if s.safe != nil {
		l.metrics.safe.Set(float64(*s.safe))
	}
	lag := float64(s.serverPos) - float64(l.journal.Confirmed())
	l.metrics.lag.Set(max(lag, 0))
}

// heartbeat writes a message into the log that comes back through the slot,
// outside of any transaction, and lets it advance while no mapped table changes.
func (l *Listener) heartbeat(ctx context.Context, c *catalog) {
	err := c.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "SELECT pg_catalog.pg_logical_emit_message(false, 'newswire', '')")
		return err
	})
	switch pgCode(err) {
	case codeInsufficientPrivilege, codeReadOnly, codeNotReady:
		l.beatsRefused.Store(true)
		l.log.WarnContext(ctx, "heartbeats are off: the server refuses them", "err", err)
	}
}
