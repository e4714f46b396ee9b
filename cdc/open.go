package cdc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"newswire/fanout/journal"
)

// open brings the slot to where its changes can be read, or says why not. It
// looks at the slot again once it holds it: before that, another process may
// still have moved it.
func (l *Listener) open(ctx context.Context, c *catalog) (*stream, error) {
	// The last stream may have ended within a transaction; it comes again whole.
	if err := l.journal.DropSpool(ctx); err != nil {
		return nil, err
	}
	in := newInbox()
	conn, err := connectReplication(ctx, l.cfg.DSN, in.flush)
	if err != nil {
		return nil, err
	}
	source, held, err := l.join(ctx, conn, c)
	var s *stream
	if err == nil {
		s = newStream(l, conn, in, c, source, held)
		err = errors.Join(l.embargo.recount(l.journal), s.assembler.recall())
	}
	if err != nil {
		hangUp(conn)
		return nil, err
	}
	l.metrics.connects.Inc()
	return s, nil
}

// errStandby reports a server in recovery. From version 16 on its slots could
// be read, but not soundly: a stream goes on through its promotion without a
// word, and what is committed behind that is of another timeline.
var errStandby = errors.New("the server that answers is a standby; waiting for the primary (name every host, and target_session_attrs=read-write, in postgres.dsn)")

// join starts the stream where the journal ends, or begins the journal's
// history with it. The slot is told as it was looked at last.
func (l *Listener) join(ctx context.Context, conn *pgconn.PgConn, c *catalog) (now journal.Source, slot slotState, err error) {
	who, err := identify(ctx, conn)
	if err != nil {
		return now, slot, err
	}
	if slot, err = c.slot(ctx); err != nil {
		return now, slot, err
	}
	if slot.recovery {
		return now, slot, errStandby
	}
	if err := slot.on(who); err != nil {
		return now, slot, err
	}
	known, began := l.history()
	if began && known.Slot == "" {
		return now, slot, gap("a resync of this journal has begun and did not end")
	}
	if err := l.usable(slot, began); err != nil {
		return now, slot, err
	}
	if !began {
		if known, err = l.begin(ctx, c, who, slot); err != nil {
			return now, slot, err
		}
	}
	if now, err = who.succeed(known, l.journal.Accepted()); err != nil {
		return now, slot, err
	}
	now.Slot = l.cfg.Slot
	if err := l.start(ctx, conn, slot); err != nil {
		return now, slot, err
	}
	if slot, err = c.slot(ctx); err != nil {
		return now, slot, err
	}
	if err := slot.on(who); err != nil {
		return now, slot, err
	}
	if err := continues(now, l.journal.Accepted(), slot); err != nil {
		return now, slot, err
	}
	return now, slot, l.record(ctx, known, now)
}

// on makes sure that both our connections lead to one server: what the one
// tells is compared with what the other does. In the moment of a promotion they
// may not, nor with two servers of which neither is the only primary.
func (s slotState) on(who server) error {
	if s.systemID == who.system && s.timeline == who.timeline {
		return nil
	}
	return fmt.Errorf("the server at postgres.dsn is changing, or there are two: system %s on timeline %d, and system %s on timeline %d; waiting for one of them (target_session_attrs=read-write finds the primary)",
		who.system, who.timeline, s.systemID, s.timeline)
}

// history is what the journal was read from; ok is false before it knows where
// it begins.
func (l *Listener) history() (s journal.Source, ok bool) {
	s, ok = l.journal.Source()
	return s, ok && l.journal.Accepted() > 0
}

// record keeps what is new about the history.
func (l *Listener) record(ctx context.Context, known, now journal.Source) error {
	if known.Equal(now) {
		return nil
	}
	if err := l.journal.SetSource(ctx, now); err != nil {
		return fmt.Errorf("record source: %w", err)
	}
	if now.Timeline != known.Timeline {
		l.metrics.failovers.Inc()
		l.log.WarnContext(ctx, "another server has taken over; the stream goes on there", "timeline", now.Timeline, "before", known.Timeline,
			"switch", now.Past[len(now.Past)-1].Until, "epoch", now.Epoch, "lsn", l.journal.Accepted())
	}
	return nil
}

// usable tells whether the slot can be read at all. A slot that is gone is a
// gap once something was read from it; before, setup can still make it.
func (l *Listener) usable(s slotState, began bool) error {
	switch {
	case !s.exists && began:
		return gap("replication slot %q does not exist any more", l.cfg.Slot)
	case !s.exists:
		return fmt.Errorf("replication slot %q does not exist; run `newswire setup --apply`", l.cfg.Slot)
	case s.lost():
		return gap("%s", s.lostHow(l.cfg.Slot))
	}
	return s.misfit(l.cfg.Slot)
}

// start begins the stream where the slot stands: 0/0 leaves that to the server,
// and no other position can skip anything.
func (l *Listener) start(ctx context.Context, conn *pgconn.PgConn, s slotState) error {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	publication := pgx.Identifier{l.cfg.Publication}.Sanitize()
	err := pglogrepl.StartReplication(ctx, conn, pgx.Identifier{l.cfg.Slot}.Sanitize(), 0, pglogrepl.StartReplicationOptions{
		Mode: pglogrepl.LogicalReplication,
		PluginArgs: []string{
			"proto_version '1'", // whole transactions, in commit order, assembled and spilled by the server
			"publication_names '" + strings.ReplaceAll(publication, "'", "''") + "'",
			"messages 'true'",
		},
	})
	switch {
	case err == nil:
		return nil
	case pgCode(err) == codeObjectInUse:
		return s.inUse(l.cfg.Slot)
	}
	return fmt.Errorf("start slot %q: %w", l.cfg.Slot, err)
}

// continues is nil when the stream goes on exactly where the journal ends, or
// before, which makes repeats.
func continues(now journal.Source, accepted journal.LSN, s slotState) error {
	switch {
	case s.confirmed > accepted:
		return gap("slot %q stands at %s, the journal ends at %s: what lies between was confirmed by another reader or the slot was made anew",
			now.Slot, s.confirmed, accepted)
	case s.serverPos < accepted:
		return gap("the server's log ends at %s, before %s where the journal ends: the server was set back", s.serverPos, accepted)
	}
	return nil
}

// hangUp ends a replication connection and with it our hold on the slot.
func hangUp(conn *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx) // the socket is closed either way
}
