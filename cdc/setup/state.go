package setup

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// state is how the server stands now, as far as the configuration goes.
type state struct {
	version     int // server_version_num
	role        roleState
	publication publicationState
	slot        slotState
	tables      []tableState // as in the configuration
}

type roleState struct {
	exists, login, replication, super, marked bool
}

type publicationState struct {
	exists, marked, all, insert, update, delete, truncate, viaRoot bool
}

type slotState struct{ exists, usable, active bool }

type tableState struct {
	Table
	partitioned bool
	identity    bool     // updates of it can be published
	key         []string // primary key, or what stands in for it
	published   bool     // directly in the publication
	schemaOpen  bool     // the role has USAGE on its schema
	readable    bool     // the role has SELECT on all that it reads
}

// columns are those that the role reads; nil means all.
func (t tableState) columns() []string {
	if len(t.Columns) == 0 {
		return nil
	}
	columns := slices.Clone(t.key)
	for _, c := range t.Columns {
		if !slices.Contains(columns, c) {
			columns = append(columns, c)
		}
	}
	return columns
}

func inspect(ctx context.Context, conn *pgx.Conn, cfg Config) (s state, err error) {
	if err := conn.QueryRow(ctx, "SELECT current_setting('server_version_num')::int").Scan(&s.version); err != nil {
		return s, fmt.Errorf("read server version: %w", err)
	}
	if s.role, err = inspectRole(ctx, conn, cfg.Role); err != nil {
		return s, fmt.Errorf("read role %q: %w", cfg.Role, err)
	}
	if s.publication, err = inspectPublication(ctx, conn, cfg.Publication); err != nil {
		return s, fmt.Errorf("read publication %q: %w", cfg.Publication, err)
	}
	err = conn.QueryRow(ctx, `SELECT true, coalesce(plugin = 'pgoutput' AND database = current_database(), false), active
		FROM pg_catalog.pg_replication_slots WHERE slot_name = $1`, cfg.Slot).Scan(&s.slot.exists, &s.slot.usable, &s.slot.active)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return s, fmt.Errorf("read slot %q: %w", cfg.Slot, err)
	}
	for _, t := range cfg.Tables {
		ts, err := inspectTable(ctx, conn, cfg, s.role.exists, t)
		if err != nil {
			return s, err
		}
		s.tables = append(s.tables, ts)
	}
	return s, nil
}

func inspectRole(ctx context.Context, conn *pgx.Conn, role string) (r roleState, err error) {
	err = conn.QueryRow(ctx, `SELECT true, rolcanlogin, rolreplication, rolsuper,
		coalesce(pg_catalog.shobj_description(oid, 'pg_authid') = $2, false)
		FROM pg_catalog.pg_roles WHERE rolname = $1`, role, Mark).
		Scan(&r.exists, &r.login, &r.replication, &r.super, &r.marked)
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return r, err
}

func inspectPublication(ctx context.Context, conn *pgx.Conn, publication string) (p publicationState, err error) {
	err = conn.QueryRow(ctx, `SELECT true, coalesce(pg_catalog.obj_description(oid, 'pg_publication') = $2, false),
		puballtables, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot
		FROM pg_catalog.pg_publication WHERE pubname = $1`, publication, Mark).
		Scan(&p.exists, &p.marked, &p.all, &p.insert, &p.update, &p.delete, &p.truncate, &p.viaRoot)
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return p, err
}

// A table counts as published also by its schema, or by a partitioned table
// above it: pg_publication_tables lists those too.
const tableQuery = `
SELECT c.oid, c.relkind = 'p',
  CASE c.relreplident
    WHEN 'd' THEN EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate)
    WHEN 'i' THEN EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisreplident)
    ELSE c.relreplident = 'f' END,
  ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum = ANY ((
          SELECT i.indkey::smallint[] FROM pg_catalog.pg_index i
          WHERE i.indrelid = c.oid AND (i.indisprimary OR i.indisreplident)
          ORDER BY i.indisprimary DESC LIMIT 1)::smallint[]) ORDER BY a.attnum),
  EXISTS (SELECT FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid
          WHERE r.prrelid = c.oid AND p.pubname = $3)
  OR EXISTS (SELECT FROM pg_catalog.pg_publication_tables t
          WHERE t.pubname = $3 AND t.schemaname = $1 AND t.tablename = $2)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')`

func inspectTable(ctx context.Context, conn *pgx.Conn, cfg Config, roleExists bool, t Table) (tableState, error) {
	s := tableState{Table: t}
	var oid uint32
	err := conn.QueryRow(ctx, tableQuery, t.Schema, t.Name, cfg.Publication).
		Scan(&oid, &s.partitioned, &s.identity, &s.key, &s.published)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return s, fmt.Errorf("table %s does not exist; create it or correct postgres.tables", t)
	case err != nil:
		return s, fmt.Errorf("read table %s: %w", t, err)
	case !roleExists:
		return s, nil
	}
	// A NULL list of columns asks for the whole table.
	err = conn.QueryRow(ctx, `SELECT pg_catalog.has_schema_privilege($1, $2, 'USAGE'),
		pg_catalog.has_table_privilege($1, $3::oid, 'SELECT') OR coalesce((
			SELECT bool_and(pg_catalog.has_column_privilege($1, $3::oid, c, 'SELECT')) FROM unnest($4::text[]) c), false)`,
		cfg.Role, t.Schema, oid, s.columns()).Scan(&s.schemaOpen, &s.readable)
	if err != nil {
		return s, fmt.Errorf("read privileges on %s: %w", t, err)
	}
	return s, nil
}
