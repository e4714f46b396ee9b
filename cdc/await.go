package cdc

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
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
// messages are those that the stream's order gives, whatever has waited. What
// the answers bring can be far more than what has waited, so it is given to the
// journal on the way.
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
	touches, err := a.touches(ctx, touched, changes)
	if err != nil {
		return err
	}
	held := a.bytes // of messages that have not waited
	for len(changes)+len(touches) > 0 {
		parts := 1
		if len(touches) == 0 || len(changes) > 0 && changes[0].begins() < touches[0].ordinal {
			if err := a.tell(ctx, &changes[0]); err != nil {
				return err
			}
			if changes[0].row == nil {
				parts = 2 // as in step
			}
			changes = changes[1:]
		} else {
			if err := a.retag(ctx, touches); err != nil {
				return fmt.Errorf("resolve tags of %s: %w", touches[0].table.name, err)
			}
			touches = touches[1:]
		}
		if a.bytes-held < parts*spoolBytes {
			continue
		}
		if err := a.spill(ctx, before(changes, touches)); err != nil {
			return err
		}
		held = a.bytes
	}
	return nil
}

// begins is the first ordinal that a change takes.
func (c *change) begins() uint32 {
	if c.left != nil {
		return c.leaving
	}
	return c.ordinal
}

// before gives the ordinal before which nothing is still to be told.
func before(changes []change, touches []*touch) uint32 {
	ordinal := uint32(math.MaxUint32)
	if len(changes) > 0 {
		ordinal = changes[0].begins()
	}
	if len(touches) > 0 {
		ordinal = min(ordinal, touches[0].ordinal)
	}
	return ordinal
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
