package publication

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Wish is what the engine needs of a table.
type Wish struct {
	Schema, Name string
	Columns      []string // that the mapping names; empty: all
	News         *Equals  // only such rows are news; nil: all, or more than a publication can tell
	Why          string   // then: why, where News is nil but not all rows are news
	Waits        string   // the column with the time that its rows wait for; "": they do not
}

// Equals is the condition that the column has the value, as text.
type Equals struct{ Column, Value string }

// Shape is what of a table decides how little of it can be published.
type Shape struct {
	Wish
	Partitioned bool
	Key         []string // primary key, else the replica identity
	heirs       bool     // tables inherit from it
	version     int
	leaves      []leaf
	attributes  []attribute
}

// Fit is the least that a publication can carry of a table so that the engine
// has what it needs and every change of the editors stays legal.
type Fit struct {
	Generated bool     // stored generated columns have to be published, too
	Columns   []string // in the table's order; nil: no column list
	WhyAll    string   // then: why not
	Filter    string   // as PostgreSQL prints it; "": no row filter
	WhyEvery  string   // then: why not; "" when every row is news
}

// ErrMissing reports a table, or a column of it, that does not exist.
var ErrMissing = errors.New("does not exist")

const shapeQuery = `
SELECT c.oid, c.relkind = 'p', current_setting('server_version_num')::int,
  ARRAY(SELECT a.attname::text FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a
        ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::smallint[]) WHERE i.indrelid = c.oid AND i.indisprimary),
  c.relkind = 'r' AND EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE h.inhparent = c.oid)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1::text AND c.relname = $2::text AND c.relkind IN ('r', 'p')`

// A domain is no type that a row filter takes, nor is a collation of one's own.
const attributesQuery = `
SELECT a.attname::text, pg_catalog.quote_ident(a.attname), a.attgenerated::text,
  CASE WHEN a.attcollation < 16384 THEN pg_catalog.format_type(a.atttypid, NULL) ELSE 'a text with a collation of its own' END
FROM pg_catalog.pg_attribute a WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`

type attribute struct{ name, quoted, generated, kind string }

// ShapeOf looks at the table. The error is ErrMissing, or the database's.
func ShapeOf(ctx context.Context, conn *pgx.Conn, w Wish) (s Shape, err error) {
	s.Wish = w
	var oid uint32
	err = conn.QueryRow(ctx, shapeQuery, w.Schema, w.Name).Scan(&oid, &s.Partitioned, &s.version, &s.Key, &s.heirs)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return s, fmt.Errorf("table %s.%s %w; create it or correct postgres.tables", w.Schema, w.Name, ErrMissing)
	case err != nil:
		return s, fmt.Errorf("read table %s.%s: %w", w.Schema, w.Name, err)
	}
	s.leaves, err = readLeaves(ctx, conn, s.version, []uint32{oid})
	if err != nil {
		return s, fmt.Errorf("read replica identity of %s.%s: %w", w.Schema, w.Name, err)
	}
	rows, err := conn.Query(ctx, attributesQuery, oid)
	if err != nil {
		return s, fmt.Errorf("read columns of %s.%s: %w", w.Schema, w.Name, err)
	}
	s.attributes, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (a attribute, err error) {
		return a, row.Scan(&a.name, &a.quoted, &a.generated, &a.kind)
	})
	if err != nil {
		return s, fmt.Errorf("read columns of %s.%s: %w", w.Schema, w.Name, err)
	}
	for i := range s.leaves {
		if len(s.Key) == 0 {
			s.Key = s.leaves[i].Key
		}
	}
	return s, s.lacks()
}

// lacks reports a column that the wish names and no publication can carry.
func (s Shape) lacks() error {
	for _, c := range s.Columns {
		a, found := first(s.attributes, func(a attribute) bool { return a.name == c })
		switch {
		case !found:
			return fmt.Errorf("column %s of %s.%s %w; add it or correct postgres.tables", c, s.Schema, s.Name, ErrMissing)
		case !Carries(s.version, a.generated):
			return fmt.Errorf("column %s of %s.%s is generated, and this PostgreSQL does not replicate it; name another in postgres.tables", c, s.Schema, s.Name)
		}
	}
	return nil
}

// Carries tells whether a publication can carry a column at all; generated is
// its attgenerated.
func Carries(version int, generated string) bool {
	return generated == "" || generated == "s" && version >= version18
}

// Entry names the table with what of it is carried, as CREATE PUBLICATION takes
// it.
func (s Shape) Entry(f Fit) string {
	entry := pgx.Identifier{s.Schema, s.Name}.Sanitize()
	if s.heirs {
		entry = "ONLY " + entry // their rows would come under other names, and they have keys of their own
	}
	if f.Columns != nil {
		var quoted []string
		for _, c := range f.Columns {
			quoted = append(quoted, pgx.Identifier{c}.Sanitize())
		}
		entry += " (" + strings.Join(quoted, ", ") + ")"
	}
	if f.Filter != "" {
		entry += " WHERE " + f.Filter
	}
	return entry
}

// Changes tells whether updates and deletes of the table can be published: else
// every one of the editors' would fail.
func (s Shape) Changes() bool {
	_, without := first(s.leaves, func(l leaf) bool { return !l.Identity || l.Full && len(l.Virtual) > 0 })
	return !without
}

// Fit decides what can be left out, in a publication with or without updates
// and deletes: only those have PostgreSQL check the replica identity.
func (s Shape) Fit(changes bool) (f Fit) {
	full, hasFull := first(s.leaves, func(l leaf) bool { return l.Full })
	switch {
	case s.version < version15:
		f.WhyAll = "column lists came with version 15"
	case len(s.Columns) == 0:
		f.WhyAll = "readers get every column"
	case changes && hasFull:
		f.WhyAll = "the replica identity of " + full.Name + " is every column"
	default:
		needed := slices.Concat(s.Columns, s.Key)
		for _, l := range s.leaves {
			needed = append(needed, l.Key...)
		}
		for _, a := range s.attributes {
			if slices.Contains(needed, a.name) {
				f.Columns = append(f.Columns, a.name)
			}
		}
	}
	f.Generated = f.Columns == nil && s.stored()
	f.Filter, f.WhyEvery = s.filter(changes)
	return f
}

// Whole leaves nothing out: PostgreSQL refuses to drop or retype a column of a
// list or a filter, and some cannot have that.
func (s Shape) Whole() Fit {
	f := Fit{Generated: s.stored(), WhyAll: "asked for with --whole"}
	if s.News != nil || s.Why != "" {
		f.WhyEvery = f.WhyAll
	}
	return f
}

func (s Shape) stored() bool {
	return slices.ContainsFunc(s.leaves, func(l leaf) bool { return len(l.Stored) > 0 })
}

func (s Shape) filter(changes bool) (condition, why string) {
	if s.News == nil {
		return "", s.Why
	}
	column := s.News.Column
	outside, isOutside := first(s.leaves, func(l leaf) bool { return !l.Full && !slices.Contains(l.Key, column) })
	if a, ok := first(s.attributes, func(a attribute) bool { return a.name == column }); ok && a.generated == "" {
		condition = equals(a, s.News.Value)
	}
	switch {
	case s.version < version15:
		return "", "row filters came with version 15"
	case condition == "":
		return "", fmt.Sprintf("the type of %s allows no row filter for %q", column, s.News.Value)
	case changes && isOutside:
		return "", "the replica identity of " + outside.Name + " does not contain " + column + ", which a row filter would read"
	}
	return condition, ""
}

// equals writes the condition as PostgreSQL prints it back, so that a filter
// that stands can be compared with it; "" for types of which the engine's own
// comparison, of texts, could let through what this one does not.
func equals(a attribute, wanted string) string {
	column, value := a.quoted, "'"+strings.ReplaceAll(wanted, "'", "''")+"'"
	if strings.Contains(wanted, `\`) {
		return "" // what it means depends on standard_conforming_strings
	}
	integer := func(bits int) bool {
		n, err := strconv.ParseInt(wanted, 10, bits)
		return err == nil && strconv.FormatInt(n, 10) == wanted
	}
	switch a.kind {
	case "text":
		return "(" + column + " = " + value + "::text)"
	case "character varying":
		return "((" + column + ")::text = " + value + "::text)"
	case "character":
		return "(" + column + " = " + value + "::bpchar)"
	case "boolean":
		if word, ok := map[string]string{"t": "true", "true": "true", "f": "false", "false": "false"}[wanted]; ok {
			return "(" + column + " = " + word + ")"
		}
	case "smallint":
		if integer(16) {
			return "(" + column + " = " + value + "::smallint)"
		}
	case "integer":
		if integer(32) && strings.HasPrefix(wanted, "-") {
			return "(" + column + " = " + value + "::integer)"
		} else if integer(32) {
			return "(" + column + " = " + wanted + ")"
		}
	case "bigint":
		if integer(64) {
			return "(" + column + " = " + value + "::bigint)"
		}
	}
	return ""
}

func first[T any](list []T, is func(T) bool) (found T, ok bool) {
	if i := slices.IndexFunc(list, is); i >= 0 {
		return list[i], true
	}
	return found, false
}
