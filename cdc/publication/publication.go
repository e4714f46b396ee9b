// Package publication knows what a publication carries, whether PostgreSQL lets
// editors save the rows that it carries, and how little it can carry so that
// they always may. Whoever makes, checks or explains a publication asks here,
// so that all say the same. It reads the catalogs and changes nothing.
package publication

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Versions that differ in what a publication can say, as server_version_num.
const (
	version15 = 150000 // row filters and column lists
	version18 = 180000 // generated columns
)

// Mark begins the comment on what `newswire setup` has made, by which it is
// known.
const Mark = "made by newswire setup"

// State is a publication as it stands.
type State struct {
	Name                             string
	Version                          int  // of the server, as server_version_num
	Marked                           bool // made by `newswire setup`
	Comment                          string
	All                              bool // FOR ALL TABLES
	Schemas                          bool // FOR TABLES IN SCHEMA, whatever else there is
	ViaRoot                          bool
	Stored                           bool // publishes stored generated columns
	Insert, Update, Delete, Truncate bool

	Tables  []Table // under the names that the stream gives them
	members []Table // that were added by themselves
	leaves  []leaf
}

// Table is a table as a publication carries it.
type Table struct {
	OID          uint32
	Schema, Name string
	Columns      []string // those that are carried; nil before version 15, when it is all
	Listed       []string // by a column list; nil without one
	Filter       string   // the row filter; "" without one
	filterReads  []string // the columns in it
}

func (t Table) String() string { return t.Schema + "." + t.Name }

// Read gives the publication; nil when there is none of that name.
func Read(ctx context.Context, conn *pgx.Conn, name string) (*State, error) {
	s := &State{Name: name}
	if err := conn.QueryRow(ctx, "SELECT current_setting('server_version_num')::int").Scan(&s.Version); err != nil {
		return nil, fmt.Errorf("read server version: %w", err)
	}
	stored, schemas := "false", "false"
	if s.Version >= version15 {
		schemas = "EXISTS (SELECT FROM pg_catalog.pg_publication_namespace n WHERE n.pnpubid = p.oid)"
	}
	if s.Version >= version18 {
		stored = "pubgencols = 's'"
	}
	err := conn.QueryRow(ctx, `SELECT coalesce(pg_catalog.obj_description(p.oid, 'pg_publication'), ''),
		puballtables, pubviaroot, pubinsert, pubupdate, pubdelete, pubtruncate, `+schemas+", "+stored+`
		FROM pg_catalog.pg_publication p WHERE pubname = $1::text`, name).
		Scan(&s.Comment, &s.All, &s.ViaRoot, &s.Insert, &s.Update, &s.Delete, &s.Truncate, &s.Schemas, &s.Stored)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read publication %q: %w", name, err)
	}
	s.Marked = strings.HasPrefix(s.Comment, Mark)
	if err := s.readTables(ctx, conn); err != nil {
		return nil, fmt.Errorf("read tables of publication %q: %w", name, err)
	}
	return s, nil
}

// tablesQuery lists what the publication carries. What a row filter reads is in
// its stored expression, by column number.
const tablesQuery = `
SELECT c.oid, t.schemaname::text, t.tablename::text, %s
FROM pg_catalog.pg_publication p
JOIN pg_catalog.pg_publication_tables t ON t.pubname = p.pubname
JOIN pg_catalog.pg_namespace n ON n.nspname = t.schemaname
JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = c.oid
WHERE p.pubname = $1::text ORDER BY 2, 3`

const listColumns = `t.attnames::text[],
  (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
   WHERE a.attrelid = c.oid AND a.attnum = ANY (r.prattrs::smallint[])),
  coalesce(t.rowfilter, ''),
  (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum IN (
     SELECT m[1]::smallint FROM pg_catalog.regexp_matches(r.prqual::text, ':varattno (\d+)', 'g') m))`

func (s *State) readTables(ctx context.Context, conn *pgx.Conn) error {
	columns := "NULL::text[], NULL::text[], '', NULL::text[]"
	if s.Version >= version15 {
		columns = listColumns
	}
	rows, err := conn.Query(ctx, fmt.Sprintf(tablesQuery, columns), s.Name)
	if err != nil {
		return err
	}
	s.Tables, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (t Table, err error) {
		return t, row.Scan(&t.OID, &t.Schema, &t.Name, &t.Columns, &t.Listed, &t.Filter, &t.filterReads)
	})
	if err != nil {
		return err
	}
	if err := s.readMembers(ctx, conn); err != nil {
		return err
	}
	var oids []uint32
	for _, t := range s.Tables {
		oids = append(oids, t.OID)
	}
	s.leaves, err = readLeaves(ctx, conn, s.Version, oids)
	return err
}

// readMembers tells of what was added by name: for a partitioned table that is
// not what the stream's names show.
func (s *State) readMembers(ctx context.Context, conn *pgx.Conn) error {
	columns := "NULL::text[], ''"
	if s.Version >= version15 {
		columns = `(SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
			WHERE a.attrelid = c.oid AND a.attnum = ANY (r.prattrs::smallint[])),
			coalesce(pg_catalog.pg_get_expr(r.prqual, r.prrelid), '')`
	}
	rows, err := conn.Query(ctx, `SELECT c.oid, n.nspname::text, c.relname::text, `+columns+`
		FROM pg_catalog.pg_publication p JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid
		JOIN pg_catalog.pg_class c ON c.oid = r.prrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE p.pubname = $1::text ORDER BY 2, 3`, s.Name)
	if err != nil {
		return err
	}
	s.members, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (t Table, err error) {
		return t, row.Scan(&t.OID, &t.Schema, &t.Name, &t.Listed, &t.Filter)
	})
	return err
}

// Table gives what is carried of a table; nil when that is nothing, or comes
// under other names.
func (s *State) Table(schema, name string) *Table {
	return find(s.Tables, schema, name)
}

// Member gives a table as it was added to the publication by itself.
func (s *State) Member(schema, name string) *Table { return find(s.members, schema, name) }

// Members are the tables that were added by themselves.
func (s *State) Members() []Table { return slices.Clone(s.members) }

func find(tables []Table, schema, name string) *Table {
	for i, t := range tables {
		if t.Schema == schema && t.Name == name {
			return &tables[i]
		}
	}
	return nil
}

// Operations lists what is published, as the parameter takes it.
func (s *State) Operations() string {
	var list []string
	for _, o := range []struct {
		name string
		on   bool
	}{{"insert", s.Insert}, {"update", s.Update}, {"delete", s.Delete}, {"truncate", s.Truncate}} {
		if o.on {
			list = append(list, o.name)
		}
	}
	return strings.Join(list, ", ")
}

// Entry names the table with what of it is carried, as CREATE PUBLICATION takes
// it.
func (t Table) Entry() string {
	s := Shape{Wish: Wish{Schema: t.Schema, Name: t.Name}}
	return s.Entry(Fit{Columns: t.Listed, Filter: t.Filter})
}

// Is tells whether the table is carried just as it fits.
func (t Table) Is(f Fit) bool { return slices.Equal(t.Listed, f.Columns) && t.Filter == f.Filter }

func (s *State) quoted() string { return pgx.Identifier{s.Name}.Sanitize() }
