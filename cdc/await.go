package cdc

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pglogrepl"
)

// awaiting is what of the open transaction cannot be told before the queries
// for tags have answered. Nothing is asked before the transaction, or a part of
// it, has been read: then each query is asked about all its rows at once.
type awaiting struct {
	changes  []change           // of tables with a query, in the stream's order
	touched  map[*table]*rowSet // whose tags may have changed by link rows
	bytes    int                // about what they take
	answered bool               // the open transaction's messages are out of order since it was last spooled

	described map[*table]described // what the catalogs tell; kept for the stream's life
}

type described struct {
	relation *relation
	columns  []string
}

// rowSet are rows of one table, in the order in which they were first named.
type rowSet struct {
	rows []touchedRow
	seen map[string]struct{}
}

// touchedRow is a row that link rows name.
type touchedRow struct {
	key     []string // the key's values as PostgreSQL prints them
	ordinal uint32   // of the first change that names it
}

func (w *awaiting) size() (n int) {
	n = len(w.changes)
	for _, t := range w.touched {
		n += len(t.rows)
	}
	return n
}

// await keeps a change for later.
func (a *assembler) await(c change) {
	const rest = 128 // everything but the rows
	w := &a.awaiting
	w.changes = append(w.changes, c)
	w.bytes += rest + rowBytes(c.row) + rowBytes(c.old)
}

func rowBytes(row *pglogrepl.TupleData) (n int) {
	if row == nil {
		return 0
	}
	const column = 48 // what one costs beside its value
	for _, c := range row.Columns {
		n += column + len(c.Data)
	}
	return n
}

// touchRow notes that the tags of a row may have changed.
func (w *awaiting) touchRow(t *table, key []string, ordinal uint32) {
	if w.touched == nil {
		w.touched = make(map[*table]*rowSet)
	}
	set := w.touched[t]
	if set == nil {
		set = &rowSet{seen: make(map[string]struct{})}
		w.touched[t] = set
	}
	joined := strings.Join(key, "\x00")
	if _, again := set.seen[joined]; again {
		return
	}
	set.seen[joined] = struct{}{}
	set.rows = append(set.rows, touchedRow{key, ordinal})
	const rest = 128
	w.bytes += rest + 2*len(joined)
}

// resolve asks the queries about what waits for them, and tells it then: the
// messages are those that the stream's order gives, whatever has waited.
func (a *assembler) resolve(ctx context.Context) error {
	w := &a.awaiting
	if len(w.changes)+len(w.touched) == 0 {
		return nil
	}
	changes, touched := w.changes, w.touched
	w.changes, w.touched, w.bytes, w.answered = nil, nil, 0, true
	if err := a.askAbout(ctx, changes); err != nil {
		return err
	}
	own := make(map[string]struct{}) // rows that the stream itself tells of
	for i := range changes {
		c := &changes[i]
		own[string(c.key)], own[string(c.left)] = struct{}{}, struct{}{}
		if err := a.tell(ctx, c); err != nil {
			return err
		}
	}
	for _, t := range a.queried {
		if set := touched[t]; set != nil {
			if err := a.retag(ctx, t, set, own); err != nil {
				return fmt.Errorf("resolve tags of %s: %w", t.name, err)
			}
		}
	}
	return nil
}

// Rows that a query is asked about at once: all that a usual transaction has,
// and few enough that the answers fit; fewer where their columns are read too.
const (
	askTags = 1000
	askRows = 100
)

// askAbout gives the changes their answers. What is not published needs none.
func (a *assembler) askAbout(ctx context.Context, changes []change) error {
	for _, t := range a.queried {
		q := question{xid: a.xid, table: t}
		waiting := make(map[string][]*change) // by key
		var order []string
		for i := range changes {
			c := &changes[i]
			if c.relation.table != t || c.row == nil || !c.maybeNews() {
				continue
			}
			key := string(c.key)
			if _, known := waiting[key]; !known {
				order = append(order, key)
			}
			waiting[key] = append(waiting[key], c)
			q.relation = c.relation // the latest one describes the table best
		}
		for keys := range slices.Chunk(order, askTags) {
			q.keys = q.keys[:0]
			for _, key := range keys {
				c := waiting[key][0]
				q.keys = append(q.keys, c.relation.keyTexts(c.row))
			}
			answers, err := a.shapes.ask(ctx, q)
			if err != nil {
				return fmt.Errorf("resolve tags of %s: %w", t.name, err)
			}
			for i, key := range keys {
				for _, c := range waiting[key] {
					c.answer = answers[i]
				}
			}
		}
	}
	return nil
}

// maybeNews is false for a row that certainly is no news, now or later.
func (c *change) maybeNews() bool {
	due, err := (&rowValues{relation: c.relation, row: c.row}).due()
	return due != never || err != nil
}

// keyTexts are the key's values as PostgreSQL prints them.
func (r *relation) keyTexts(row *pglogrepl.TupleData) (texts []string) {
	for _, i := range r.key {
		texts = append(texts, string(row.Columns[i].Data))
	}
	return texts
}

// retag corrects published rows whose tags link rows have changed, and of which
// the stream tells nothing else here. Their data is read as it stands now: if it
// has changed since, that change comes behind and finds nothing new; a row that
// is no longer there, or no longer news, is left to the change that made it so.
func (a *assembler) retag(ctx context.Context, t *table, set *rowSet, own map[string]struct{}) error {
	d, err := a.describe(ctx, t)
	if err != nil {
		return err
	}
	type touch struct {
		touchedRow
		rowKey []byte
	}
	var touches []touch
	for _, row := range set.rows {
		if !d.relation.mayHave(row.key) {
			a.count(rowUnkeyed)
			continue
		}
		rowKey, err := d.relation.keyOf(row.key)
		if err != nil {
			return err
		}
		if _, told := own[string(rowKey)]; !told {
			touches = append(touches, touch{row, rowKey})
		}
	}
	for some := range slices.Chunk(touches, askRows) {
		q := question{xid: a.xid, table: t, relation: d.relation, columns: d.columns}
		for _, touch := range some {
			q.keys = append(q.keys, touch.key)
		}
		answers, err := a.shapes.ask(ctx, q)
		if err != nil {
			delete(a.awaiting.described, t)
			return err
		}
		for i, touch := range some {
			if err := a.retagRow(d.relation, touch.rowKey, answers[i], touch.ordinal); err != nil {
				return err
			}
		}
	}
	return nil
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

// Types of keys whose texts are told apart from others.
const (
	oidInt8 = 20
	oidInt2 = 21
	oidInt4 = 23
	oidUUID = 2950
)

var uuidText = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// mayHave is false for what cannot be a row's key: a link table that ties rows
// of several tables may have keys of other types in the same column.
func (r *relation) mayHave(texts []string) bool {
	for n, i := range r.key {
		if n == len(texts) {
			return true // keyOf tells
		}
		var err error
		switch r.columns[i].typ.OID {
		case oidInt2:
			_, err = strconv.ParseInt(texts[n], 10, 16)
		case oidInt4:
			_, err = strconv.ParseInt(texts[n], 10, 32)
		case oidInt8:
			_, err = strconv.ParseInt(texts[n], 10, 64)
		case oidUUID:
			if !uuidText.MatchString(texts[n]) {
				return false
			}
		}
		if err != nil {
			return false
		}
	}
	return true
}

// keyOf makes the key under which a row is remembered of its key's values.
func (r *relation) keyOf(texts []string) ([]byte, error) {
	if len(texts) != len(r.key) {
		return nil, fmt.Errorf("%w: the key of %s has %d columns, and a link table's key %d; correct postgres.tables[%d].tags.links, then start again",
			ErrMapping, r.table.name, len(r.key), len(texts), r.table.index)
	}
	row := tuple(make([][]byte, len(r.columns)))
	for n, i := range r.key {
		row.Columns[i].DataType, row.Columns[i].Data = pglogrepl.TupleDataTypeText, []byte(texts[n])
	}
	return r.rowKey(row)
}

// textsOf reads the key's values out of the key under which a row is remembered.
func (r *relation) textsOf(rowKey []byte) ([]string, error) {
	d := json.NewDecoder(bytes.NewReader(rowKey[len(r.table.prefix):]))
	d.UseNumber()
	var values map[string]any
	if err := d.Decode(&values); err != nil {
		return nil, fmt.Errorf("read key of %s: %w", r.table.name, err)
	}
	var texts []string
	for _, i := range r.key {
		texts = append(texts, fmt.Sprint(values[r.columns[i].name]))
	}
	return texts, nil
}
