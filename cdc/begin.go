package cdc

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"newswire/cdc/publication"
	"newswire/fanout/journal"
)

// begin begins an empty journal where the slot stands. What came before the
// slot is nobody's news; what is published already is remembered silently.
// The journal's beginning is recorded before anything is read from the slot,
// so that a slot that others move from now on is recognised.
func (l *Listener) begin(ctx context.Context, c *catalog, who server, slot slotState) (journal.Source, error) {
	s := who.begin(l.cfg.Slot, firstEpoch)
	if slot.active { // not worth reading whole tables for
		return s, slot.inUse(l.cfg.Slot)
	}
	if err := l.unread(ctx, c, slot); err != nil {
		return s, err
	}
	var err error
	if s.Filled, err = l.fill(ctx, c, slot.confirmed); err != nil {
		return s, err
	}
	if err := l.journal.Rebase(ctx, s, slot.confirmed); err != nil {
		return s, fmt.Errorf("record source: %w", err)
	}
	return s, nil
}

// unread makes sure that an empty journal misses nothing of what the slot has
// given. PostgreSQL does not keep where a slot was made, so setup notes it; of
// a slot that setup did not make, the server's statistics tell whether a
// transaction was ever read from it, until a crash of the server clears them.
func (l *Listener) unread(ctx context.Context, c *catalog, s slotState) error {
	var note string
	var read int64
	err := c.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		err := conn.QueryRow(ctx, `SELECT coalesce(pg_catalog.obj_description(oid, 'pg_publication'), '')
			FROM pg_catalog.pg_publication WHERE pubname = $1`, l.cfg.Publication).Scan(&note)
		if err == nil || errors.Is(err, pgx.ErrNoRows) {
			err = conn.QueryRow(ctx, `SELECT coalesce(sum(total_txns), 0)::bigint
				FROM pg_catalog.pg_stat_replication_slots WHERE slot_name = $1`, l.cfg.Slot).Scan(&read)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("read the past of slot %q: %w", l.cfg.Slot, err)
	}
	made, noted := publication.SlotMade(note, l.cfg.Slot)
	switch {
	case noted && made == s.confirmed.String():
		return nil
	case noted:
		return gap("this journal is empty, but replication slot %q, which `newswire setup` made at %s, stands at %s: it was read into another journal, or made anew",
			l.cfg.Slot, made, s.confirmed)
	case read > 0:
		return gap("this journal is empty, but %d transactions were read from replication slot %q before: they may be in another journal", read, l.cfg.Slot)
	}
	return nil
}
