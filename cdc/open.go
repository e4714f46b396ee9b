package cdc

import (
	"context"
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
func (l *Listener) open(ctx context.Context, c *catalog) (s *stream, err error) {
	// The last stream may have ended within a transaction; it comes again whole.
	if err := l.journal.DropSpool(ctx); err != nil {
		return nil, err
	}
	conn, err := connectReplication(ctx, l.cfg.DSN)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			hangUp(conn)
		}
	}()
	system, err := pglogrepl.IdentifySystem(ctx, conn)
	if err != nil {
		return nil, fmt.Errorf("identify system: %w", err)
	}
	before, err := c.slot(ctx)
	if err != nil {
		return nil, err
	}
	if err := l.usable(before); err != nil {
		return nil, err
	}
	if _, began := l.journal.Source(); !began {
		if before.active { // not worth reading whole tables for
			return nil, before.inUse(l.cfg.Slot)
		}
		if err := l.fill(ctx, c); err != nil {
			return nil, err
		}
	}
	if err := l.start(ctx, conn, before); err != nil {
		return nil, err
	}
	held, err := c.slot(ctx)
	if err != nil {
		return nil, err
	}
	source, err := l.join(ctx, system, held)
	if err != nil {
		return nil, err
	}
	if err := l.embargo.recount(l.journal); err != nil {
		return nil, err
	}
	l.metrics.connects.Inc()
	s = newStream(l, conn, c, source.Epoch, held)
	return s, s.assembler.recall()
}

// usable tells whether the slot can be read at all. A slot that is gone is a
// gap once something was read from it; before, setup can still make it.
func (l *Listener) usable(s slotState) error {
	_, began := l.journal.Source()
	switch {
	case !s.exists && began:
		return gap("replication slot %q does not exist any more", l.cfg.Slot)
	case !s.exists:
		return fmt.Errorf("replication slot %q does not exist; run `newswire setup --apply`", l.cfg.Slot)
	case s.lost():
		return gap("replication slot %q is lost: PostgreSQL has removed log that it needed (max_slot_wal_keep_size)", l.cfg.Slot)
	}
	return s.misfit(l.cfg.Slot)
}

// start begins the stream where the slot stands: 0/0 leaves that to the server,
// and no other position can skip anything.
func (l *Listener) start(ctx context.Context, conn *pgconn.PgConn, s slotState) error {
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

// join checks that the slot continues what the journal holds, or begins the
// journal's history with it.
func (l *Listener) join(ctx context.Context, system pglogrepl.IdentifySystemResult, s slotState) (journal.Source, error) {
	now := journal.Source{SystemID: system.SystemID, Timeline: system.Timeline, Slot: l.cfg.Slot, Epoch: firstEpoch}
	known, began := l.journal.Source()
	confirmed := l.journal.Confirmed()
	if began {
		now.Epoch = known.Epoch
		if err := continues(known, now, confirmed, s); err != nil {
			return now, err
		}
	}
	if known != now {
		if err := l.journal.SetSource(ctx, now); err != nil {
			return now, fmt.Errorf("record source: %w", err)
		}
	}
	if confirmed == 0 {
		// What came before the slot is nobody's news. Recorded, the position
		// makes a slot that is later put in its place recognisable.
		if err := l.journal.Advance(ctx, s.confirmed); err != nil {
			return now, fmt.Errorf("record position %s: %w", s.confirmed, err)
		}
	}
	return now, nil
}

// continues is nil when the stream goes on exactly where the journal ends, or
// before, which makes repeats.
func continues(known, now journal.Source, confirmed journal.LSN, s slotState) error {
	switch {
	case known.SystemID != now.SystemID:
		return gap("the journal was read from PostgreSQL system %s, this is system %s", known.SystemID, now.SystemID)
	case known.Timeline != now.Timeline:
		return gap("the journal was read on timeline %d, the server is on timeline %d", known.Timeline, now.Timeline)
	case confirmed == 0:
		return nil
	case s.confirmed > confirmed:
		return gap("slot %q stands at %s, the journal ends at %s: what lies between was confirmed by another reader or the slot was made anew",
			now.Slot, s.confirmed, confirmed)
	case s.serverPos < confirmed:
		return gap("the server's log ends at %s, before %s where the journal ends: the server was set back", s.serverPos, confirmed)
	}
	return nil
}

// hangUp ends a replication connection and with it our hold on the slot.
func hangUp(conn *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx) // the socket is closed either way
}
