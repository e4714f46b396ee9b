package cdc

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pglogrepl"
)

// tie says whose tags the rows of a link table change, and where in them that
// one's key stands.
type tie struct {
	table   *table
	columns []int
	misfit  error // told when a row needs it
}

// tie finds what a table as the stream describes it is the link table of.
func (a *assembler) tie(n name, m *pglogrepl.RelationMessage) (ties []tie) {
	for _, t := range a.queried {
		for k, l := range t.links {
			if l.name != n {
				continue
			}
			found := tie{table: t}
			for _, column := range l.key {
				i := slices.IndexFunc(m.Columns, func(c *pglogrepl.RelationMessageColumn) bool { return c.Name == column })
				if i < 0 {
					found.misfit = fmt.Errorf("%w: column %s of %s, which postgres.tables[%d].tags.links[%d].key names, is no longer in the replication stream;"+goOn,
						ErrMapping, column, n, t.index, k)
				}
				found.columns = append(found.columns, i)
			}
			ties = append(ties, found)
		}
	}
	return ties
}

// key reads the tied row's key out of a link row; ok is false when it is not told.
func (t tie) key(row *pglogrepl.TupleData) (key []string, ok bool) {
	for _, i := range t.columns {
		if row == nil || i >= len(row.Columns) || row.Columns[i].DataType != pglogrepl.TupleDataTypeText {
			return nil, false
		}
		key = append(key, string(row.Columns[i].Data))
	}
	return key, true
}

// touch notes whose tags a row change may have changed: rows are what the stream
// tells of it, as it is and as it was. The first row that it names has the
// change's ordinal, unless the change makes a message itself; each further one
// takes the next.
func (a *assembler) touch(s shape, ordinal uint32, rows []*pglogrepl.TupleData) error {
	used := s.mapped()
	for _, t := range s.ties {
		if t.misfit != nil {
			return t.misfit
		}
		var named [][]string
		for _, row := range rows {
			key, ok := t.key(row)
			if !ok || slices.ContainsFunc(named, func(other []string) bool { return slices.Equal(other, key) }) {
				continue
			}
			named = append(named, key)
			if used {
				ordinal = a.next()
			}
			used = true
			a.awaiting.touchRow(t.table, key, ordinal)
		}
		if len(named) == 0 {
			a.count(rowUnkeyed)
		}
	}
	return nil
}

// emptied notes that a truncated table was a link table: every published row
// that it may have tied is asked about. together are the tables truncated with it.
func (a *assembler) emptied(ctx context.Context, s shape, ordinal uint32, together []uint32) error {
	used := s.mapped()
	for _, t := range s.ties {
		if t.misfit != nil {
			return t.misfit
		}
		gone := slices.ContainsFunc(together, func(id uint32) bool {
			r := a.relations[id].relation
			return r != nil && r.table == t.table
		})
		if gone {
			continue
		}
		if err := a.resolve(ctx); err != nil { // what was changed before
			return err
		}
		d, err := a.describe(ctx, t.table)
		if err != nil {
			return err
		}
		err = a.rows.of(t.table.name, a.open.LSN, func(key []byte, _ *rowState) error {
			texts, err := d.relation.textsOf(key)
			if err != nil {
				return err
			}
			if used {
				ordinal = a.next()
			}
			used = true
			a.awaiting.touchRow(t.table, texts, ordinal)
			return a.spillAfter(ctx, 1, nil)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
