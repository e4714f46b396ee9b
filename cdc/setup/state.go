package setup

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"newswire/cdc/publication"
)

// state is how the server stands now, as far as the configuration goes.
type state struct {
	version     int    // server_version_num
	level       string // wal_level
	role        roleState
	publication *publication.State // nil: there is none
	slot        slotState
	tables      []tableState // as in the configuration
	reads       []tableState // what its queries read
}

type roleState struct {
	exists, login, replication, super, marked bool
}

type slotState struct{ exists, usable, active bool }

type tableState struct {
	publication.Shape
	schemaOpen bool     // the role has USAGE on its schema
	readable   bool     // the role has SELECT on the table
	hidden     []string // else: of what it reads, the columns on which it has not; nil where columns() is

	reads    []string // columns that queries for tags read
	readsAll bool     // they read the whole row
	onlyRead bool     // by them: the table is not mapped
}

// lacksRights tells whether a grant is missing.
func (t tableState) lacksRights() bool {
	return !t.readable && (len(t.hidden) > 0 || t.columns() == nil)
}

// missing are the attributes that the engine's role needs and does not have.
func (r roleState) missing() (attributes []string) {
	if !r.login {
		attributes = append(attributes, "LOGIN")
	}
	if !r.replication && !r.super {
		attributes = append(attributes, "REPLICATION")
	}
	return attributes
}

func (t tableState) String() string { return t.Schema + "." + t.Name }

func (t tableState) quoted() string { return pgx.Identifier{t.Schema, t.Name}.Sanitize() }

// columns are those that the role reads; nil means all.
func (t tableState) columns() []string {
	if t.readsAll || len(t.Columns) == 0 && !t.onlyRead {
		return nil
	}
	columns := slices.Clone(t.Key)
	for _, c := range slices.Concat(t.Columns, t.reads) {
		if !slices.Contains(columns, c) {
			columns = append(columns, c)
		}
	}
	return columns
}

func inspect(ctx context.Context, conn *pgx.Conn, cfg Config) (s state, err error) {
	if err := conn.QueryRow(ctx, "SELECT current_setting('server_version_num')::int, current_setting('wal_level')").Scan(&s.version, &s.level); err != nil {
		return s, fmt.Errorf("read server version: %w", err)
	}
	if s.role, err = inspectRole(ctx, conn, cfg.Role); err != nil {
		return s, fmt.Errorf("read role %q: %w", cfg.Role, err)
	}
	if s.publication, err = publication.Read(ctx, conn, cfg.Publication); err != nil {
		return s, err
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
	return s, inspectQueries(ctx, conn, cfg, &s)
}

// left are the tables of a publication of setup's own that the configuration
// does not name any more. Where it names a partition that comes by way of a
// member, none are: that may be any of them.
func (s state) left() (tables []publication.Table) {
	p := s.publication
	if p == nil || !p.Marked || p.All || p.Schemas {
		return nil
	}
	for _, t := range s.tables {
		if p.Member(t.Schema, t.Name) == nil && p.Table(t.Schema, t.Name) != nil {
			return nil
		}
	}
	for _, m := range p.Members() {
		if !slices.ContainsFunc(s.tables, func(t tableState) bool { return t.Schema == m.Schema && t.Name == m.Name }) {
			tables = append(tables, m)
		}
	}
	return tables
}

// permits tells in a sentence which table keeps changes from being published
// that the engine cannot do without.
func (s state) permits() error {
	var shapes []publication.Shape
	for _, t := range s.tables {
		if t.Waits != "" && (!t.Changes() || len(t.Key) == 0) {
			return fmt.Errorf("table %s has no primary key, so it would not be seen when a row that waits for the time in %s is deleted or put off; give it a primary key, or use {column: …, equals: …}", t, t.Waits)
		}
		shapes = append(shapes, t.Shape)
	}
	if starved := publication.Starves(shapes); starved != nil {
		return fmt.Errorf("%s; %s", starved.Why(), starved.Remedy())
	}
	return nil
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

func inspectTable(ctx context.Context, conn *pgx.Conn, cfg Config, roleExists bool, t Table) (s tableState, err error) {
	if err := replicated(ctx, conn, t); err != nil {
		return s, err
	}
	if s.Shape, err = publication.ShapeOf(ctx, conn, publication.Wish(t)); err != nil {
		return s, err
	}
	return s, s.inspectRights(ctx, conn, cfg.Role, roleExists)
}

// replicated refuses what has rows and is in no publication.
func replicated(ctx context.Context, conn *pgx.Conn, t Table) error {
	var table, logged bool
	quoted := pgx.Identifier{t.Schema, t.Name}.Sanitize()
	err := conn.QueryRow(ctx, `SELECT relkind IN ('r', 'p'), relpersistence = 'p' FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass($1)`, quoted).
		Scan(&table, &logged)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil // whoever looks at it says so
	case err != nil:
		return fmt.Errorf("read table %s.%s: %w", t.Schema, t.Name, err)
	case !table:
		return fmt.Errorf("%s.%s is no table, so its rows are not replicated; name the table behind it in postgres.tables", t.Schema, t.Name)
	case !logged:
		return fmt.Errorf("table %s.%s is unlogged or temporary, so its rows are not replicated; run ALTER TABLE %s SET LOGGED", t.Schema, t.Name, quoted)
	}
	return nil
}

// inspectRights looks at what the role may read already.
func (t *tableState) inspectRights(ctx context.Context, conn *pgx.Conn, role string, exists bool) error {
	if t.hidden = t.columns(); !exists {
		return nil
	}
	err := conn.QueryRow(ctx, `SELECT pg_catalog.has_schema_privilege($1, $2, 'USAGE'), pg_catalog.has_table_privilege($1, $3::text, 'SELECT'),
		ARRAY(SELECT c FROM unnest($4::text[]) c WHERE NOT pg_catalog.has_column_privilege($1, $3::text, c, 'SELECT'))`,
		role, t.Schema, t.quoted(), t.columns()).Scan(&t.schemaOpen, &t.readable, &t.hidden)
	if err != nil {
		return fmt.Errorf("read privileges on %s: %w", t, err)
	}
	return nil
}
