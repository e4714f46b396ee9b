package cdc

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"newswire/cdc/slot"
	"newswire/fanout/journal"
)

// begin begins an empty journal where the slot stands. What came before the
// slot is nobody's news; what is published already is remembered silently.
// The journal's beginning is recorded before anything is read from the slot,
// so that a slot that others move from now on is recognised.
func (l *Listener) begin(ctx context.Context, c *catalog, who server, at slotState) (journal.Source, error) {
	s := who.begin(l.cfg.Slot, firstEpoch)
	if at.active { // not worth reading whole tables for
		return s, at.inUse(l.cfg.Slot)
	}
	if err := l.unread(ctx, c, at); err != nil {
		return s, err
	}
	var err error
	if s.Filled, err = l.fill(ctx, c, at.confirmed); err != nil {
		return s, err
	}
	if err := l.journal.Rebase(ctx, s, at.confirmed); err != nil {
		return s, fmt.Errorf("record source: %w", err)
	}
	return s, nil
}

// unread makes sure that an empty journal misses nothing of what the slot has
// given.
func (l *Listener) unread(ctx context.Context, c *catalog, s slotState) error {
	var why string
	err := c.do(ctx, func(ctx context.Context, conn *pgx.Conn) (err error) {
		why, err = slot.Past(ctx, conn, l.cfg.Slot, l.cfg.Publication, s.confirmed)
		return err
	})
	if err == nil && why != "" {
		err = gap("%s", why)
	}
	return err
}
