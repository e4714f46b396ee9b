package cdc

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"newswire/cdc/pgjson"
	"newswire/fanout/journal"
)

// fill remembers the rows that are published already, before anything is read
// from the slot for the first time. They make no messages: they are old news.
// It reads them as of the snapshot of a temporary slot, whose position it
// records with each: what the stream then tells of a row before that position
// counts, not what the snapshot knew in advance.
//
// A role that may not read a table, and a server without a free slot, cost only
// this knowledge: the first change of an old article then counts as its
// publication. The log says so. at is the snapshot's position, 0 without one.
//
// What became news lately is told, where the configuration says so.
func (l *Listener) fill(ctx context.Context, c *catalog, before journal.LSN) (at journal.LSN, err error) {
	conn, err := connectReplication(ctx, l.cfg.DSN, nil)
	if err != nil {
		return 0, err
	}
	defer hangUp(conn)
	snapshot, at, err := l.cfg.temporarySlot(ctx, conn)
	if pgCode(err) == codeTooManySlots && l.cfg.Backfill > 0 {
		return 0, fmt.Errorf("no replication slot is free for a moment, which postgres.backfill needs; raise max_replication_slots: %w", err)
	}
	if pgCode(err) == codeTooManySlots {
		l.log.WarnContext(ctx, "no replication slot is free for a moment, so what was published before stays unknown; raise max_replication_slots", "err", err)
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	now, err := c.now(ctx)
	if err != nil {
		return 0, err
	}
	b, err := l.beginBackfill(ctx, at, before, now)
	if err != nil {
		return 0, err
	}
	for _, t := range l.tables {
		n, err := l.fillTable(ctx, c, t, fillFrom{snapshot, at, now, b})
		if pgCode(err) == codeInsufficientPrivilege && t.query == nil {
			l.log.WarnContext(ctx, "the role may not read a table, so what was published in it before stays unknown", "table", t.name.String())
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("read %s as of the snapshot: %w", t.name, err)
		}
		l.log.InfoContext(ctx, "read what was published before", "table", t.name.String(), "rows", n)
	}
	if b == nil {
		return at, nil
	}
	n, err := b.run(ctx, l, c, snapshot)
	if err == nil {
		l.log.InfoContext(ctx, "backfilled what became news lately", "rows", n, "since", b.progress.since.time())
	}
	return at, err
}

// temporarySlot makes a slot that ends with conn, for its snapshot, which lives
// as long as conn does nothing else.
func (cfg Config) temporarySlot(ctx context.Context, conn *pgconn.PgConn) (snapshot string, at journal.LSN, err error) {
	name := cfg.Slot[:min(len(cfg.Slot), maxNameBytes-len(fillSuffix))] + fillSuffix
	slot, err := pglogrepl.CreateReplicationSlot(ctx, conn, name, "pgoutput", pglogrepl.CreateReplicationSlotOptions{
		Temporary: true, SnapshotAction: "EXPORT_SNAPSHOT", Mode: pglogrepl.LogicalReplication,
	})
	if err != nil {
		return "", 0, fmt.Errorf("create temporary slot %q: %w", name, err)
	}
	lsn, err := pglogrepl.ParseLSN(slot.ConsistentPoint)
	if err != nil {
		return "", 0, fmt.Errorf("create temporary slot %q: position %q: %w", name, slot.ConsistentPoint, err)
	}
	return slot.SnapshotName, journal.LSN(lsn), nil
}

// fillFrom is what rows are read from.
type fillFrom struct {
	snapshot string
	at       journal.LSN // of the snapshot
	now      time.Time
	backfill *backfill // tells some of them itself; nil: none
}

const (
	fillSuffix       = "_fill"
	codeTooManySlots = "53400"
)

// fillTable remembers one table's published rows, and those that wait for a
// time behind now, and tells how many. Those that a backfill tells it leaves out.
func (l *Listener) fillTable(ctx context.Context, c *catalog, t *table, from fillFrom) (n int, err error) {
	r, columns, err := c.describe(ctx, t)
	if err != nil || len(r.key) == 0 {
		return 0, err
	}
	r.oddValue = l.metrics.oddValues.Inc
	conn, err := connectAs(ctx, l.cfg.DSN, pgjson.Settings)
	if err != nil {
		return 0, err
	}
	defer hangUp(conn)
	results, err := selectRows(ctx, conn, t, r, columns, from.snapshot, nil)
	if err != nil {
		return 0, err
	}
	var broken error
	err = l.journal.FillRows(ctx, filled(results, r, from, &n, &broken))
	return n, errors.Join(broken, err, results.Close())
}

// window is a stretch of time in which a column lies.
type window struct {
	column      string
	since, upto instant
}

// where is the condition, a little wider than the window.
func (w *window) where() string {
	const second = instant(time.Second / time.Microsecond)
	moment := func(i instant) string { return fmt.Sprintf("pg_catalog.to_timestamp(%d)", i/second) }
	column := rowAlias + "." + pgx.Identifier{w.column}.Sanitize()
	return column + " >= " + moment(w.since-second) + " AND " + column + " <= " + moment(w.upto+second)
}

// selectRows reads the columns that the configuration needs of all rows, as of
// a snapshot, in the order of their keys; behind them, where there is a query,
// the tags that it gives. With a window it reads only the rows in there, in the
// order of the times.
func selectRows(ctx context.Context, conn *pgconn.PgConn, t *table, r *relation, columns []string, snapshot string, in *window) (*pgconn.MultiResultReader, error) {
	begin := "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '" + snapshot + "'"
	if err := conn.Exec(ctx, begin).Close(); err != nil {
		return nil, err
	}
	var list, order []string
	for _, column := range columns {
		list = append(list, rowAlias+"."+pgx.Identifier{column}.Sanitize())
	}
	var key []string
	for _, i := range r.key {
		order, key = append(order, list[i]), append(key, columns[i])
	}
	if t.query != nil {
		list = append(list, t.query.expression(key))
	}
	var conditions []string
	if in != nil {
		conditions = append(conditions, in.where())
		order = append([]string{rowAlias + "." + pgx.Identifier{in.column}.Sanitize()}, order...)
	}
	query := "SELECT " + strings.Join(list, ", ") + " FROM " + t.name.quoted() + " AS " + rowAlias
	if r.filter != "" { // what the publication withholds is nobody's news
		conditions = append(conditions, "("+r.filter+")")
	}
	if len(conditions) > 0 {
		query += " WHERE " + strings.Join(conditions, " AND ")
	}
	return conn.Exec(ctx, query+" ORDER BY "+strings.Join(order, ", ")), nil
}

// filled gives what is to be remembered of the published rows among the
// results, and of those that wait.
func filled(results *pgconn.MultiResultReader, r *relation, from fillFrom, n *int, broken *error) iter.Seq[journal.Row] {
	return func(yield func(journal.Row) bool) {
		for results.NextResult() {
			for rows := results.ResultReader(); rows.NextRow(); {
				v := selected(r, rows.Values())
				v.at = instantOf(from.now)
				a, err := v.article(func(tagFate) {})
				if err != nil {
					*broken = err
					return
				}
				if a == nil {
					continue
				}
				key := rowKey(r.table.name, a.key)
				taken, err := from.backfill.takes(v, a, key)
				if err != nil {
					*broken = err
					return
				}
				if taken {
					continue
				}
				*n++
				for _, row := range a.remembered(key, from.at) {
					if !yield(row) {
						return
					}
				}
			}
		}
	}
}

// selected is a row that selectRows has read.
func selected(r *relation, values [][]byte) *rowValues {
	v := &rowValues{relation: r}
	if n := len(r.columns); len(values) > n {
		v.answer = &answer{tags: slices.Clone(values[n])}
		values = values[:n]
	}
	v.row = tuple(values)
	return v
}

// remembered is what a snapshot at a position tells of a row.
func (a *article) remembered(key []byte, at journal.LSN) []journal.Row {
	if !a.waits() {
		state := &rowState{filled: at, hashes: a.hashes, tags: a.tags}
		return []journal.Row{{Key: key, State: state.encode()}}
	}
	state, records := a.waiting(key)
	state.filled = at
	rows := []journal.Row{{Key: key, State: state.encode()}}
	for k, record := range records {
		rows = append(rows, journal.Row{Key: k, State: record})
	}
	return rows
}

// tuple makes a row of a query one of the stream.
func tuple(values [][]byte) *pglogrepl.TupleData {
	t := &pglogrepl.TupleData{ColumnNum: uint16(len(values))}
	for _, v := range values {
		c := &pglogrepl.TupleDataColumn{DataType: pglogrepl.TupleDataTypeText, Data: slices.Clone(v)}
		if v == nil {
			c.DataType = pglogrepl.TupleDataTypeNull
		}
		t.Columns = append(t.Columns, c)
	}
	return t
}

const columnsQuery = `
SELECT a.attname::text, a.atttypid
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped
  AND (a.attgenerated = '' OR a.attname = ANY ($3::text[])) -- those that the publication carries
ORDER BY a.attnum`

// carriedQuery tells what a publication carries of a table; before 15 it is the
// whole of it.
const carriedQuery = `
SELECT attnames::text[], coalesce(rowfilter, '')
FROM pg_catalog.pg_publication_tables
WHERE pubname = $1 AND schemaname = $2 AND tablename = $3`

// describe makes of the catalogs what a Relation message tells, for the columns
// that the configuration needs.
func (c *catalog) describe(ctx context.Context, t *table) (r *relation, columns []string, err error) {
	key, err := c.primaryKey(ctx, t.name)
	if err != nil {
		return nil, nil, err
	}
	m := &pglogrepl.RelationMessage{Namespace: t.name.schema, RelationName: t.name.table}
	var oids []uint32
	var carried []string
	var filter string
	err = c.do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		if serverMajor(conn.PgConn()) >= 15 {
			err := conn.QueryRow(ctx, carriedQuery, c.cfg.Publication, t.name.schema, t.name.table).Scan(&carried, &filter)
			if err != nil {
				return fmt.Errorf("read what publication %q carries: %w", c.cfg.Publication, err)
			}
		}
		rows, err := conn.Query(ctx, columnsQuery, t.name.schema, t.name.table, carried)
		if err != nil {
			return err
		}
		var column string
		var oid uint32
		_, err = pgx.ForEachRow(rows, []any{&column, &oid}, func() error {
			needed := len(t.cfg.Data) == 0 || slices.Contains(key, column) ||
				slices.ContainsFunc(t.mapped(), func(m mapped) bool { return m.column == column })
			if needed && (carried == nil || slices.Contains(carried, column)) {
				columns, oids = append(columns, column), append(oids, oid)
				m.Columns = append(m.Columns, &pglogrepl.RelationMessageColumn{Name: column, DataType: oid})
			}
			return nil
		})
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	types, err := c.types(ctx, oids)
	if err != nil {
		return nil, nil, err
	}
	r, err = t.resolve(m, key, types)
	if err != nil {
		return nil, nil, fmt.Errorf("%w;"+mendTable, err)
	}
	if r.filter = filter; len(key) == 0 {
		r.key = nil
	}
	return r, columns, nil
}
