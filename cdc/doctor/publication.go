package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// publication is what the slot carries.
type publication struct {
	all, viaRoot                     bool
	insert, update, delete, truncate bool
}

func (e *examination) quotedPublication() string {
	return pgx.Identifier{e.cfg.Publication}.Sanitize()
}

func (e *examination) examinePublication(ctx context.Context) error {
	var p publication
	err := e.conn.QueryRow(ctx, `SELECT puballtables, pubviaroot, pubinsert, pubupdate, pubdelete, pubtruncate
		FROM pg_catalog.pg_publication WHERE pubname = $1::text`, e.cfg.Publication).
		Scan(&p.all, &p.viaRoot, &p.insert, &p.update, &p.delete, &p.truncate)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		e.fatal("publication", e.cfg.Publication, setupRemedy, "the publication does not exist")
		return nil
	case err != nil:
		return err
	}
	e.pub = &p
	e.ok("publication", e.cfg.Publication, "the publication exists")
	e.operations(p)
	return nil
}

func (e *examination) operations(p publication) {
	const check = "publication-operations"
	if !p.insert {
		e.fatal(check, e.cfg.Publication, setupRemedy, "the publication does not publish inserts")
	}
	var missing []string
	for _, o := range []struct {
		name string
		on   bool
	}{{"updates", p.update}, {"deletes", p.delete}, {"truncates", p.truncate}} {
		if !o.on {
			missing = append(missing, o.name)
		}
	}
	switch {
	case len(missing) > 0:
		e.warn(check, e.cfg.Publication, "give every table a primary key and "+setupRemedy,
			"the publication does not publish %s, so readers miss the corrections and retractions made by them", list(missing))
	case p.insert:
		e.ok(check, e.cfg.Publication, "inserts, updates, deletes and truncates are published")
	}
}

// publishedTables examines what the publication carries of each mapped table.
func (e *examination) publishedTables(ctx context.Context) error {
	if e.pub == nil {
		return nil // told already
	}
	listed := "NULL::text[], NULL::text"
	if e.version >= version15 {
		listed = `attnames::text[], rowfilter`
	}
	for _, t := range e.tables {
		var columns []string
		var filter *string
		err := e.conn.QueryRow(ctx, "SELECT "+listed+` FROM pg_catalog.pg_publication_tables
			WHERE pubname = $1::text AND schemaname = $2::text AND tablename = $3::text`, e.cfg.Publication, t.Schema, t.Name).Scan(&columns, &filter)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			e.notCarried(t)
			continue
		case err != nil:
			return err
		}
		e.ok("publication-tables", t.String(), "the publication carries the table")
		e.listed(t, columns)
		e.filtered(t, filter)
	}
	return nil
}

// notCarried tells why the rows of a table do not come under its name.
func (e *examination) notCarried(t foundTable) {
	const check = "publication-tables"
	switch {
	case t.partitioned && !e.pub.viaRoot:
		e.fatal(check, t.String(), fmt.Sprintf("%s, or ALTER PUBLICATION %s SET (publish_via_partition_root = true)", setupRemedy, e.quotedPublication()),
			"publication %q publishes the rows of this partitioned table under the names of its partitions, if at all", e.cfg.Publication)
	case t.leaf != "" && e.pub.viaRoot:
		e.fatal(check, t.String(), fmt.Sprintf("name %s in %s.name", t.leaf, t.Key),
			"publication %q publishes the rows of this partition under the name of %s", e.cfg.Publication, t.leaf)
	default:
		e.fatal(check, t.String(), fmt.Sprintf("%s, or ALTER PUBLICATION %s ADD TABLE %s", setupRemedy, e.quotedPublication(), t.quoted()),
			"publication %q does not carry the table", e.cfg.Publication)
	}
}

// listed examines the publication's columns of the table; nil before version 15.
func (e *examination) listed(t foundTable, columns []string) {
	if columns == nil {
		return
	}
	for _, c := range t.Columns {
		if !slices.Contains(columns, c.Name) && !slices.Contains(t.unusable, c.Name) {
			e.fatal("publication-tables", t.String(), fmt.Sprintf("add it to the publication's column list, or take it out of %s", c.Key),
				"publication %q does not carry column %s", e.cfg.Publication, c.Name)
		}
	}
}

// filtered tells what leaves the database.
func (e *examination) filtered(t foundTable, filter *string) {
	const check = "publication-filter"
	switch {
	case filter != nil && !t.Filtered:
		e.warn(check, t.String(), fmt.Sprintf("set %s.published to the same condition, or take the filter off the publication", t.Key),
			"the publication has the row filter %s, of which the configuration knows nothing: readers do not see the other rows", *filter)
	case filter != nil:
		e.ok(check, t.String(), "only rows with %s leave the database", *filter)
	case e.version < version15:
		e.ok(check, t.String(), "whole rows leave the database, drafts too, and the engine drops what is not mapped: row filters and column lists came with version 15")
	case t.Filtered:
		e.ok(check, t.String(), "every row leaves the database, drafts too, and the engine drops those that are no news")
	default:
		e.ok(check, t.String(), "every row is news, and leaves the database")
	}
}

// identityQuery lists what the publication carries, down to the partitions:
// it is their replica identity that an UPDATE is checked against. What a row
// filter reads is in its stored expression, by column number.
const identityQuery = `
WITH listed AS (
  SELECT c.oid, %s
  FROM pg_catalog.pg_publication p
  JOIN pg_catalog.pg_publication_tables t ON t.pubname = p.pubname
  JOIN pg_catalog.pg_namespace n ON n.nspname = t.schemaname
  JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
  LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = c.oid
  WHERE p.pubname = $1::text),
leaves AS (
  SELECT l.*, coalesce(p.relid::oid, l.oid) AS leaf
  FROM listed l LEFT JOIN LATERAL (SELECT relid FROM pg_catalog.pg_partition_tree(l.oid) WHERE isleaf) p ON true)
SELECT n.nspname || '.' || c.relname, c.relreplident = 'f',
  c.relreplident = 'f' OR i.indexrelid IS NOT NULL,
  ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::smallint[]) ORDER BY a.attnum),
  l.filter, l.columns
FROM leaves l
JOIN pg_catalog.pg_class c ON c.oid = l.leaf AND c.relkind IN ('r', 'p')
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_index i ON i.indrelid = c.oid
  AND (c.relreplident = 'd' AND i.indisprimary AND i.indimmediate OR c.relreplident = 'i' AND i.indisreplident)
ORDER BY 1`

// identityColumns are the filter's and the list's columns, by name.
const identityColumns = `
    (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum IN (
       SELECT m[1]::smallint FROM pg_catalog.regexp_matches(r.prqual::text, ':varattno (\d+)', 'g') m)) AS filter,
    (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
     WHERE a.attrelid = c.oid AND a.attnum = ANY (r.prattrs::smallint[])) AS columns`

// published is one table in which PostgreSQL checks the editors' changes.
type published struct {
	Name     string
	Full     bool // the replica identity is all columns
	Identity bool // there is one
	Key      []string
	Filter   []string // columns that the row filter reads; nil: none
	Columns  []string // nil: all
}

// replicaIdentity looks for tables on which the publication makes UPDATE or
// DELETE fail: also those that are not mapped, because their editors suffer too.
func (e *examination) replicaIdentity(ctx context.Context) error {
	if e.pub == nil {
		return nil // told already
	}
	var fails []string
	if e.pub.update {
		fails = append(fails, "UPDATE")
	}
	if e.pub.delete {
		fails = append(fails, "DELETE")
	}
	if len(fails) == 0 {
		e.ok("replica-identity", e.cfg.Publication, "neither updates nor deletes are published, so none can fail")
		return nil
	}
	columns := "NULL::text[] AS filter, NULL::text[] AS columns"
	if e.version >= version15 {
		columns = identityColumns
	}
	rows, err := e.conn.Query(ctx, fmt.Sprintf(identityQuery, columns), e.cfg.Publication)
	if err != nil {
		return err
	}
	tables, err := pgx.CollectRows(rows, pgx.RowToStructByPos[published])
	if err != nil {
		return err
	}
	broken := 0
	for _, t := range tables {
		if why, remedy := t.breaks(e.quotedPublication()); why != "" {
			broken++
			e.fatal("replica-identity", t.Name, remedy, "%s, so every %s on it fails", why, strings.Join(fails, " and "))
		}
	}
	if broken == 0 {
		e.ok("replica-identity", e.cfg.Publication, "the replica identity of every published table permits %s", strings.Join(fails, " and "))
	}
	return nil
}

// breaks tells why PostgreSQL refuses changes of the table; "" when it does not.
func (t published) breaks(publication string) (why, remedy string) {
	missing := func(columns []string) []string {
		return slices.DeleteFunc(slices.Clone(columns), func(c string) bool { return slices.Contains(t.Key, c) })
	}
	switch {
	case !t.Identity:
		return "the publication carries its changes, but the table has no replica identity",
			"give the table a primary key, or run `newswire setup --apply`, or take the table out of publication " + publication
	case t.Full && t.Columns != nil:
		return "the publication has a column list, but the replica identity is every column",
			"take the column list off publication " + publication + ", or set the table's replica identity to its key"
	case t.Columns != nil && !containsAll(t.Columns, t.Key):
		return "the publication's column list leaves out a part of the replica identity, " + list(t.Key),
			"add it to the column list of publication " + publication
	case !t.Full && len(missing(t.Filter)) > 0:
		return "the publication's row filter reads " + list(missing(t.Filter)) + ", which the replica identity does not contain",
			"take the row filter off publication " + publication + ", or let it read key columns only"
	}
	return "", ""
}

func containsAll(all, some []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(all, s) })
}
