package setup

import (
	"context"
	"errors"
	"fmt"
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

// inspectQueries finds out which columns the queries read, and which of them
// the role may read already.
func inspectQueries(ctx context.Context, conn *pgx.Conn, cfg Config, s *state) error {
	for _, q := range cfg.Queries {
		reads, err := ReadsOf(ctx, conn, q)
		if err != nil {
			return err
		}
		for _, read := range reads {
			t := tableState{reads: read.Columns, readsAll: len(read.Columns) == 0, onlyRead: true}
			t.Schema, t.Name = read.Schema, read.Name
			if err := s.alsoReads(t).inspectRights(ctx, conn, cfg.Role, s.role.exists); err != nil {
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

// ReadsOf finds out which columns a query reads; of a table without any it
// reads the whole. PostgreSQL itself says so, of a temporary view that is rolled
// back at once. The error is one sentence.
func ReadsOf(ctx context.Context, conn *pgx.Conn, q Query) ([]Table, error) {
	table := pgx.Identifier{q.Schema, q.Table}.Sanitize()
	key, err := keyOf(ctx, conn, table)
	if err != nil {
		return nil, fmt.Errorf("read key of %s: %w", table, err)
	}
	switch {
	case len(key) == 0:
		return nil, fmt.Errorf("%s needs a key to ask for, and %s.%s has no primary key; add one", q.Key, q.Schema, q.Table)
	case q.Parameters > len(key):
		return nil, fmt.Errorf("%s has the parameter $%d, but the key of %s.%s has only %d: %s", q.Key, q.Parameters, q.Schema, q.Table, len(key), strings.Join(key, ", "))
	}
	view := "CREATE TEMPORARY VIEW newswire_reads AS SELECT " + q.Expression(key) + " AS tags FROM " + table + " AS " + q.Alias
	reads, err := viewReads(ctx, conn, view)
	if refusal := new(pgconn.PgError); errors.As(err, &refusal) {
		return nil, fmt.Errorf("%s fails: %s, SQLSTATE %s; correct it", q.Key, refusal.Message, refusal.Code)
	}
	if err != nil {
		return nil, fmt.Errorf("examine %s: %w", q.Key, err)
	}
	return reads, nil
}

// keyOf gives the key's columns, in the order that the table has them in.
func keyOf(ctx context.Context, conn *pgx.Conn, table string) ([]string, error) {
	rows, err := conn.Query(ctx, `SELECT a.attname::text
		FROM (SELECT indkey::smallint[] AS columns FROM pg_catalog.pg_index WHERE indrelid = $1::text::regclass AND (indisprimary OR indisreplident)
			ORDER BY indisprimary DESC LIMIT 1) AS key
		JOIN pg_catalog.pg_attribute a ON a.attrelid = $1::text::regclass AND a.attnum = ANY (key.columns) ORDER BY a.attnum`, table)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

func viewReads(ctx context.Context, conn *pgx.Conn, view string) (reads []Table, err error) {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, tx.Rollback(ctx)) }()
	if _, err := tx.Exec(ctx, view, pgx.QueryExecModeSimpleProtocol); err != nil {
		return nil, err
	}
	rows, err := tx.Query(ctx, readsQuery, pgx.QueryExecModeExec) // prepared, it would mean the first view for ever
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (t Table, err error) {
		return t, row.Scan(&t.Schema, &t.Name, &t.Columns)
	})
}
