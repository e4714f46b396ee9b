package cdc

import (
	"context"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"newswire/cdc/pgjson"
	"newswire/fanout/journal"
)

// compareStep and compareBytes are how many messages, and of what size, are
// journaled together: well within one transaction of the journal.
const (
	compareStep  = 500
	compareBytes = 1 << 20
)

// compare journals what differs, table by table.
func (r *resync) compare(ctx context.Context, source journal.Source, snapshot string, at journal.LSN) error {
	a := newAssembler(r.tables, r.catalog, source, r.journal, r.metrics)
	if err := a.recall(); err != nil {
		return err
	}
	// A commit record may begin exactly at the slot's position; one byte before
	// it no other message has its id.
	now, err := r.catalog.now(ctx)
	if err != nil {
		return err
	}
	a.open = &journal.Commit{Epoch: source.Epoch, LSN: at - 1, End: at, Time: now, Part: true}
	for _, t := range r.tables {
		c := &comparison{assembler: a, journal: r.journal, table: t, seen: make(map[uint64]struct{})}
		if err := c.run(ctx, r, snapshot); err != nil {
			return fmt.Errorf("compare %s with the journal: %w", t.name, err)
		}
		r.progress(fmt.Sprintf("%s: %d rows compared, %d messages made.", t.name, c.rows, c.messages))
	}
	return nil
}

// comparison is that of one table.
type comparison struct {
	assembler *assembler
	journal   Journal
	table     *table
	rows      int
	messages  int
	seen      map[uint64]struct{} // hashes of the published rows' keys
}

func (c *comparison) run(ctx context.Context, r *resync, snapshot string) error {
	rel, columns, err := r.catalog.describe(ctx, c.table)
	if err != nil {
		return err
	}
	if len(rel.key) == 0 {
		return errors.New("the table has no primary key, so its rows cannot be told apart; add one")
	}
	rel.oddValue = r.metrics.oddValues.Inc
	conn, err := connectAs(ctx, r.cfg.DSN, pgjson.Settings)
	if err != nil {
		return err
	}
	defer hangUp(conn)
	results, err := selectRows(ctx, conn, c.table, rel, columns, snapshot, nil)
	if err != nil {
		return err
	}
	for results.NextResult() {
		for rows := results.ResultReader(); rows.NextRow(); {
			if err := c.row(ctx, selected(rel, rows.Values())); err != nil {
				return errors.Join(err, results.Close())
			}
		}
	}
	if err := results.Close(); err != nil {
		return err
	}
	if err := c.gone(ctx, rel); err != nil {
		return err
	}
	return c.flush(ctx)
}

// row compares one row of the table.
func (c *comparison) row(ctx context.Context, v *rowValues) error {
	c.rows++
	a, rel := c.assembler, v.relation
	key, err := rel.rowKey(v.row)
	if err != nil {
		return err
	}
	was, err := a.rows.get(key, a.open.LSN)
	if err != nil {
		return err
	}
	v.was, v.at = was, a.now()
	next, err := v.article(a.skippedTag)
	if err != nil {
		return err
	}
	if next != nil {
		c.seen[xxhash.Sum64(key)] = struct{}{}
	}
	return c.decide(ctx, rel, key, was, next)
}

// gone retracts the rows that are remembered and were not seen.
func (c *comparison) gone(ctx context.Context, rel *relation) error {
	a := c.assembler
	return a.rows.of(c.table.name, a.open.LSN, func(key []byte, was *rowState) error {
		if _, seen := c.seen[xxhash.Sum64(key)]; seen {
			return nil
		}
		return c.decide(ctx, rel, key, was, nil)
	})
}

// decide makes the message, if any, and journals a step's worth of them. The
// ordinal counts what was compared, whether it makes a message or not.
func (c *comparison) decide(ctx context.Context, rel *relation, key []byte, was *rowState, next *article) error {
	a := c.assembler
	ordinal := a.ordinal
	a.ordinal++
	if err := a.decide(rel, key, was, next, ordinal); err != nil {
		return err
	}
	if max(len(a.open.Messages), a.rows.changed.len()) < compareStep && a.bytes < compareBytes {
		return nil
	}
	return c.flush(ctx)
}

func (c *comparison) flush(ctx context.Context) error {
	a := c.assembler
	c.messages += len(a.open.Messages)
	return c.journal.Append(ctx, a.part())
}
