package cdc

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"newswire/cdc/pgjson"
)

// embargo checks what articles need that wait for their time: the column is a
// time, the row has a key to be remembered by, and the server lets the role say
// that a time has come.
func (p *preflight) embargo(ctx context.Context, tables []*table) error {
	waiting := false
	for _, t := range tables {
		if _, found := p.found[t.name]; !found {
			continue // told already
		}
		for _, m := range t.times() {
			if err := p.time(ctx, t, m); err != nil {
				return err
			}
		}
		if t.reached != nil {
			waiting = true
			if err := p.keyed(ctx, t); err != nil {
				return err
			}
		}
	}
	if !waiting {
		return nil
	}
	return p.emits(ctx)
}

const columnTypeQuery = `
SELECT a.atttypid, pg_catalog.format_type(a.atttypid, a.atttypmod)
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2 AND a.attname = $3 AND a.attnum > 0 AND NOT a.attisdropped`

// time checks that a column holds times.
func (p *preflight) time(ctx context.Context, t *table, m mapped) error {
	var oid uint32
	var printed string
	err := p.conn.QueryRow(ctx, columnTypeQuery, t.name.schema, t.name.table, m.column).Scan(&oid, &printed)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil // told already
	}
	if err != nil {
		return fmt.Errorf("read type of column %s of %s: %w", m.column, t.name, err)
	}
	types, err := pgjson.Load(ctx, p.conn, []uint32{oid})
	if err != nil {
		return fmt.Errorf("read type of column %s of %s: %w", m.column, t.name, err)
	}
	if !isTime(types[oid]) {
		p.fault("column %s of %s is of type %s, which is no time; name a timestamptz, timestamp or date in %s", m.column, t.name, printed, m.key)
	}
	return nil
}

// keyed checks that a row that waits can be told from others.
func (p *preflight) keyed(ctx context.Context, t *table) error {
	var keyed bool
	err := p.conn.QueryRow(ctx, `SELECT c.relreplident = 'i' OR EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relname = $2`, t.name.schema, t.name.table).Scan(&keyed)
	if err != nil {
		return fmt.Errorf("read key of %s: %w", t.name, err)
	}
	if !keyed {
		p.fault("table %s has no primary key, so its rows cannot wait for the time in %s; give it a primary key, or use {column: …, equals: …}", t.name, t.reached.Column)
	}
	return nil
}

// emitQuery tells whether the server takes a message in its log, and which
// function writes it.
const emitQuery = `
SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.has_function_privilege(oid, 'EXECUTE'), oid::regprocedure::text
FROM pg_catalog.pg_proc
WHERE proname = 'pg_logical_emit_message' AND pronamespace = 'pg_catalog'::regnamespace AND proargtypes[2] = 'text'::regtype`

func (p *preflight) emits(ctx context.Context) error {
	var standby, may bool
	var function string
	if err := p.conn.QueryRow(ctx, emitQuery).Scan(&standby, &may, &function); err != nil {
		return fmt.Errorf("read who may write messages: %w", err)
	}
	switch user := p.conn.Config().User; {
	case standby:
		p.fault("the server is a standby, which takes no message that a time has come, so published.reached cannot be served from it; point postgres.dsn at the primary")
	case !may:
		p.fault("user %q may not say that a time has come, so published.reached cannot be served; run GRANT EXECUTE ON FUNCTION pg_catalog.%s TO %s",
			user, function, pgx.Identifier{user}.Sanitize())
	}
	return nil
}
