package cdc

import (
	"context"
	"fmt"
	"slices"

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
	told, err := readProgress(l.journal)
	if err != nil {
		return s, err
	}
	if told.next > 0 && told.at < at.confirmed {
		// A backfill was interrupted, and the slot that it belonged to is gone: what
		// became of the rows that it told is to be compared, as behind any gap.
		s.Filled = told.at
		return s, l.journal.Rebase(ctx, s, told.at)
	}
	if s.Filled, err = l.fill(ctx, c, at.confirmed); err != nil {
		return s, err
	}
	if err := l.forgetOlder(ctx, at.confirmed); err != nil {
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

// forgetOlder forgets what a first fill that did not end has left of rows that
// are not there any more: the slot that would have told of them is gone. What
// belongs to the present slot was filled as of its position, or later.
func (l *Listener) forgetOlder(ctx context.Context, slot journal.LSN) error {
	var older []journal.Row
	for _, t := range l.tables {
		err := l.journal.Rows(rowPrefix(t.name), func(key, raw []byte) error {
			s, err := decodeRowState(raw)
			if err != nil {
				return fmt.Errorf("row %q: %w", key, err)
			}
			if s.id.IsZero() && s.filled < slot {
				older = append(older, journal.Row{Key: key})
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if len(older) == 0 {
		return nil
	}
	return l.journal.FillRows(ctx, slices.Values(older))
}
