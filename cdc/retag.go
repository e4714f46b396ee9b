package cdc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
)

// touch is a row that link rows name, and of which the stream tells nothing else.
type touch struct {
	touchedRow
	table    *table
	rowKey   []byte
	asked    bool
	relation *relation // that the answer was read with; nil before
	answer   *answer
}

// touches orders the rows that link rows name, without those that changes tell.
func (a *assembler) touches(ctx context.Context, touched map[*table]*rowSet, changes []change) (list []*touch, err error) {
	if len(touched) == 0 {
		return nil, nil
	}
	own := make(map[string]struct{})
	for i := range changes {
		own[string(changes[i].key)], own[string(changes[i].left)] = struct{}{}, struct{}{}
	}
	for t, set := range touched {
		d, err := a.describe(ctx, t)
		if err != nil {
			return nil, fmt.Errorf("resolve tags of %s: %w", t.name, err)
		}
		for _, row := range set.rows {
			if !d.relation.mayHave(row.key) {
				a.count(rowUnkeyed)
				continue
			}
			rowKey, err := d.relation.keyOf(row.key)
			if err != nil {
				return nil, fmt.Errorf("resolve tags of %s: %w", t.name, err)
			}
			if _, told := own[string(rowKey)]; !told {
				list = append(list, &touch{touchedRow: row, table: t, rowKey: rowKey})
			}
		}
	}
	slices.SortFunc(list, func(x, y *touch) int { return cmp.Compare(x.ordinal, y.ordinal) })
	return list, nil
}

// retag corrects the first of the rows if it is published and its tags have
// changed. Its data is read as it stands now: if it has changed since, that
// change comes behind and finds nothing new; a row that is no longer there, or
// no longer news, is left to the change that made it so.
func (a *assembler) retag(ctx context.Context, touches []*touch) error {
	first := touches[0]
	if !first.asked {
		if err := a.askTouched(ctx, touches); err != nil {
			return err
		}
	}
	found := first.answer
	first.answer = nil
	return a.retagRow(first.relation, first.rowKey, found, first.ordinal)
}

// askTouched asks about the first of the rows, and others of its table with it.
// What the catalogs told of the table may be old by now: a column may have gone.
func (a *assembler) askTouched(ctx context.Context, touches []*touch) error {
	t := touches[0].table
	q := question{xid: a.xid, table: t}
	var some []*touch
	for _, touch := range touches {
		if touch.table == t && len(some) < askRows {
			some, q.keys = append(some, touch), append(q.keys, touch.key)
		}
	}
	for {
		_, old := a.awaiting.described[t]
		d, err := a.describe(ctx, t)
		if err != nil {
			return err
		}
		q.relation, q.columns = d.relation, d.columns
		answers, err := a.shapes.ask(ctx, q)
		if err == nil {
			for i, touch := range some {
				touch.asked, touch.relation, touch.answer = true, d.relation, answers[i]
			}
			return nil
		}
		delete(a.awaiting.described, t)
		if !old || !errors.Is(err, ErrMapping) {
			return err
		}
	}
}

func (a *assembler) retagRow(r *relation, key []byte, found *answer, ordinal uint32) error {
	was, err := a.rows.get(key, a.open.LSN)
	if err != nil || was == nil || found == nil {
		return err
	}
	next, err := (&rowValues{relation: r, row: found.row, at: a.now(), was: was, answer: found}).article(a.skippedTag)
	if err != nil || next == nil || slices.Equal(next.tags, was.tags) {
		return err
	}
	return a.decide(r, key, was, next, ordinal)
}

type described struct {
	relation *relation
	columns  []string
}

func (a *assembler) describe(ctx context.Context, t *table) (described, error) {
	if d, known := a.awaiting.described[t]; known {
		return d, nil
	}
	r, columns, err := a.shapes.describe(ctx, t)
	if err != nil {
		return described{}, fmt.Errorf("describe %s: %w", t.name, err)
	}
	r.oddValue = a.metrics.oddValues.Inc
	if a.awaiting.described == nil {
		a.awaiting.described = make(map[*table]described)
	}
	d := described{r, columns}
	a.awaiting.described[t] = d
	return d, nil
}
