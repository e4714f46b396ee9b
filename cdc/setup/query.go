package setup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// readsQuery lists the columns that a view reads; a table of which it needs no
// column by name is read as a whole.
const readsQuery = `
SELECT n.nspname::text, c.relname::text, array_remove(array_agg(DISTINCT a.attname::text), NULL)
FROM pg_catalog.pg_rewrite r
JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_catalog.pg_class'::regclass
JOIN pg_catalog.pg_class c ON c.oid = d.refobjid AND c.oid <> r.ev_class
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid AND d.refobjsubid > 0
WHERE r.ev_class = 'pg_temp.newswire_reads'::regclass AND n.nspname <> 'pg_catalog'
GROUP BY 1, 2 ORDER BY 1, 2`

// inspectQueries finds out which columns the queries read. PostgreSQL itself
// says so, of a temporary view that is rolled back at once.
func inspectQueries(ctx context.Context, conn *pgx.Conn, cfg Config, s *state) error {
	for _, q := range cfg.Queries {
		at := slices.IndexFunc(s.tables, func(t tableState) bool { return t.String() == q.Table })
		key, err := keyColumns(ctx, conn, s.tables[at].quoted(), s.tables[at].Key)
		if err != nil {
			return fmt.Errorf("read key of %s: %w", q.Table, err)
		}
		if len(key) == 0 {
			return fmt.Errorf("%s needs a key to ask for, and %s has no primary key; add one", q.Key, q.Table)
		}
		if q.Parameters > len(key) {
			return fmt.Errorf("%s has the parameter $%d, but the key of %s has only %d: %s", q.Key, q.Parameters, q.Table, len(key), strings.Join(key, ", "))
		}
		reads, err := readsOf(ctx, conn, q, key)
		var refusal *pgconn.PgError
		if errors.As(err, &refusal) {
			return fmt.Errorf("%s fails: %s, SQLSTATE %s; correct it", q.Key, refusal.Message, refusal.Code)
		}
		if err != nil {
			return fmt.Errorf("examine %s: %w", q.Key, err)
		}
		for _, read := range reads {
			if err := s.alsoReads(read).inspectRights(ctx, conn, cfg.Role, s.role.exists); err != nil {
				return err
			}
		}
	}
	return nil
}

// alsoReads adds what a query reads to what the role reads anyway.
func (s *state) alsoReads(read tableState) *tableState {
	for _, list := range []*[]tableState{&s.tables, &s.reads} {
		for i := range *list {
			t := &(*list)[i]
			if t.String() != read.String() {
				continue
			}
			t.reads, t.readsAll = append(t.reads, read.reads...), t.readsAll || read.readsAll
			return t
		}
	}
	s.reads = append(s.reads, read)
	return &s.reads[len(s.reads)-1]
}

// keyColumns puts the key into the order that the table has it in.
func keyColumns(ctx context.Context, conn *pgx.Conn, table string, key []string) ([]string, error) {
	rows, err := conn.Query(ctx, `SELECT attname::text FROM pg_catalog.pg_attribute
		WHERE attrelid = $1::text::regclass AND attname = ANY ($2::text[]) ORDER BY attnum`, table, key)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

func readsOf(ctx context.Context, conn *pgx.Conn, q Query, key []string) (reads []tableState, err error) {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, tx.Rollback(ctx)) }()
	view := "CREATE TEMPORARY VIEW newswire_reads AS SELECT " + q.Expression(key) + " AS tags FROM " + q.From
	if _, err := tx.Exec(ctx, view, pgx.QueryExecModeSimpleProtocol); err != nil {
		return nil, err
	}
	rows, err := tx.Query(ctx, readsQuery, pgx.QueryExecModeExec) // prepared, it would mean the first view for ever
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (t tableState, err error) {
		err = row.Scan(&t.Schema, &t.Name, &t.reads)
		t.onlyRead, t.readsAll = true, len(t.reads) == 0
		return t, err
	})
}
