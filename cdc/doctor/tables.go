package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// foundTable is a mapped table that exists.
type foundTable struct {
	Table
	oid         uint32
	partitioned bool
	unusable    []string // mapped columns that are missing or generated
	leaf        string   // the partitioned table above it; "" when there is none
	key         []string // primary key
	identity    bool     // a replica identity by index, or by all columns
	hidden      []string // mapped and key columns that the role may not SELECT
	schemaOpen  bool
	rowSecurity bool // is in force for this role
}

const tableQuery = `
SELECT c.oid, c.relkind::text, c.relpersistence::text,
  coalesce((SELECT pn.nspname || '.' || p.relname FROM pg_catalog.pg_class p JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
            WHERE p.oid = (SELECT pg_catalog.pg_partition_root(c.oid)) AND p.oid <> c.oid), ''),
  ARRAY(SELECT a.attname::text FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a
        ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::smallint[])
        WHERE i.indrelid = c.oid AND i.indisprimary ORDER BY a.attnum),
  c.relreplident = 'f' OR c.relreplident = 'i',
  ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
  ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND (a.attgenerated = 'v' OR a.attgenerated <> '' AND current_setting('server_version_num')::int < 180000)),
  ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        AND NOT pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT') ORDER BY a.attnum),
  pg_catalog.has_schema_privilege(n.oid, 'USAGE'), pg_catalog.row_security_active(c.oid)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1::text AND c.relname = $2::text`

func (e *examination) examineTables(ctx context.Context) error {
	var failed []error
	for _, t := range e.cfg.Tables {
		if err := e.table(ctx, t); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", t, err))
		}
	}
	return errors.Join(failed...)
}

func (e *examination) table(ctx context.Context, t Table) error {
	f := foundTable{Table: t}
	var kind, persistence string
	var columns, generated, hidden []string
	err := e.conn.QueryRow(ctx, tableQuery, t.Schema, t.Name).Scan(&f.oid, &kind, &persistence, &f.leaf, &f.key, &f.identity,
		&columns, &generated, &hidden, &f.schemaOpen, &f.rowSecurity)
	object := t.String()
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		e.fatal("table", object, fmt.Sprintf("create it or correct %s", t.named()), "the table does not exist")
		return nil
	case err != nil:
		return err
	case kind != "r" && kind != "p":
		e.fatal("table", object, fmt.Sprintf("name the table behind it in %s", t.named()), "this is no table, so its rows are not replicated")
		return nil
	case persistence != "p":
		e.fatal("table", object, fmt.Sprintf("run ALTER TABLE %s SET LOGGED", t.quoted()), "the table is unlogged or temporary, so its rows are not replicated")
	default:
		e.ok("table", object, "the table exists and is logged")
	}
	f.partitioned = kind == "p"
	f.unusable = e.columns(t, columns, generated)
	for _, c := range hidden {
		if t.All || slices.Contains(f.key, c) || slices.ContainsFunc(t.Columns, func(m Column) bool { return m.Name == c }) {
			f.hidden = append(f.hidden, c)
		}
	}
	e.tables = append(e.tables, f)
	if t.Link { // what the engine needs of it, the query's check tells
		return nil
	}
	e.key(f)
	e.selects(f)
	return nil
}

// columns examines those that the configuration names, and gives the unusable.
func (e *examination) columns(t Table, columns, generated []string) (unusable []string) {
	for _, c := range t.Columns {
		switch {
		case !slices.Contains(columns, c.Name):
			e.fatal("columns", t.String(), "add it or correct "+c.Key, "the table has no column %s", c.Name)
		case slices.Contains(generated, c.Name):
			e.fatal("columns", t.String(), "name another in "+c.Key, "column %s is generated, and this PostgreSQL does not replicate it", c.Name)
		default:
			continue
		}
		unusable = append(unusable, c.Name)
	}
	if len(unusable) == 0 {
		e.ok("columns", t.String(), "every mapped column is there")
	}
	return unusable
}

// key examines what ties corrections and retractions to what was published.
func (e *examination) key(t foundTable) {
	switch {
	case len(t.key) > 0:
		e.ok("primary-key", t.String(), "rows are told apart by %s", list(t.key))
	case t.identity:
		e.ok("primary-key", t.String(), "rows are told apart by the replica identity")
	default:
		e.warn("primary-key", t.String(), fmt.Sprintf("run ALTER TABLE %s ADD PRIMARY KEY (…)", t.quoted()),
			"the table has no primary key, so nothing ties a correction or a retraction to what was published")
	}
}

// selects examines what the role can read by itself. The stream shows it every
// row all the same.
func (e *examination) selects(t foundTable) {
	const lost = "the silent first fill, `newswire resync` and reading large values again"
	role := pgx.Identifier{e.user}.Sanitize()
	switch {
	case !t.schemaOpen:
		e.warn("select-rights", t.String(), fmt.Sprintf("run GRANT USAGE ON SCHEMA %s TO %s, unless it was set up --minimal", pgx.Identifier{t.Schema}.Sanitize(), role),
			"the role may not use schema %s, so it loses %s", t.Schema, lost)
	case len(t.hidden) > 0:
		e.warn("select-rights", t.String(), setupRemedy+", unless it was set up --minimal",
			"the role may not SELECT %s, so it loses %s", list(t.hidden), lost)
	default:
		e.ok("select-rights", t.String(), "the role may SELECT every mapped column")
	}
	if t.rowSecurity {
		e.warn("row-security", t.String(), fmt.Sprintf("add a policy that lets %s see every row: CREATE POLICY newswire ON %s FOR SELECT TO %s USING (true)", role, t.quoted(), role),
			"row level security hides rows from the role, and `newswire resync` takes a row that it cannot see for one that is gone")
	}
}
