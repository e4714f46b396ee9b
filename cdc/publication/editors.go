package publication

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// leaf is a table in which rows stand: a partition, or a table that has none.
// It is its replica identity that PostgreSQL checks an UPDATE against.
type leaf struct {
	root     uint32 // the table that is published
	Name     string
	Full     bool // the replica identity is every column
	Identity bool // there is one
	Key      []string
	Stored   []string // generated columns
	Virtual  []string
}

// leavesQuery gives the leaves of tables. A partitioned table without any
// stands for itself. An index that is being made, or was left half made, is no
// replica identity yet.
const leavesQuery = `
SELECT o.oid, n.nspname || '.' || c.relname, c.relreplident = 'f', c.relreplident = 'f' OR i.indexrelid IS NOT NULL,
  ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::smallint[]) ORDER BY a.attnum),
  ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attgenerated = 's' AND NOT a.attisdropped ORDER BY a.attnum),
  ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attgenerated = 'v' AND NOT a.attisdropped ORDER BY a.attnum)
FROM unnest($1::oid[]) o (oid)
LEFT JOIN LATERAL (SELECT relid::oid FROM pg_catalog.pg_partition_tree(o.oid) WHERE isleaf) p ON true
JOIN pg_catalog.pg_class c ON c.oid = coalesce(p.relid, o.oid) AND c.relkind IN ('r', 'p')
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_index i ON i.indrelid = c.oid AND i.indisvalid
  AND (c.relreplident = 'd' AND i.indisprimary AND i.indimmediate OR c.relreplident = 'i' AND i.indisreplident)
ORDER BY 2`

// readLeaves forgets generated columns before version 18, where they are
// neither published nor missed.
func readLeaves(ctx context.Context, conn *pgx.Conn, version int, oids []uint32) ([]leaf, error) {
	rows, err := conn.Query(ctx, leavesQuery, oids)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (l leaf, err error) {
		err = row.Scan(&l.root, &l.Name, &l.Full, &l.Identity, &l.Key, &l.Stored, &l.Virtual)
		if version < version18 {
			l.Stored, l.Virtual = nil, nil
		}
		return l, err
	})
}

// Fault is a table on which the publication makes the editors' changes fail.
type Fault struct {
	Table  string
	Why    string // without what fails
	Remedy string
}

// Fails names the statements that a fault makes fail; "" when neither updates
// nor deletes are published, so that none can.
func (s *State) Fails() string {
	var fails []string
	if s.Update {
		fails = append(fails, "UPDATE")
	}
	if s.Delete {
		fails = append(fails, "DELETE")
	}
	return strings.Join(fails, " and ")
}

// Faults lists the tables on which editors cannot save: also those that are not
// mapped, because their editors suffer too.
func (s *State) Faults(mapped func(schema, name string) bool) (faults []Fault) {
	if s.Fails() == "" {
		return nil
	}
	for _, t := range s.Tables {
		for _, l := range s.leaves {
			if l.root != t.OID {
				continue
			}
			if why, remedy := s.breaks(t, l, mapped(t.Schema, t.Name)); why != "" {
				faults = append(faults, Fault{l.Name, why, remedy})
			}
		}
	}
	return faults
}

// ListRemedy says how the column that the key names comes to be carried. What a
// table without a column list lacks is generated.
func (s *State) ListRemedy(t Table, key string) string {
	switch {
	case s.Marked:
		return again + " before the engine starts"
	case t.Listed == nil:
		return "it is generated: run ALTER PUBLICATION " + s.quoted() + " SET (publish_generated_columns = stored), or take it out of " + key
	}
	return "add it to the publication's column list, or take it out of " + key
}

const again = "run `newswire setup --apply`"

// breaks tells why PostgreSQL refuses changes of the leaf; "" when it does not.
func (s *State) breaks(t Table, l leaf, mapped bool) (why, remedy string) {
	fix := func(otherwise string) string {
		if s.Marked && mapped {
			return again + ", or " + otherwise
		}
		return otherwise
	}
	outside := func(columns []string) []string {
		return slices.DeleteFunc(slices.Clone(columns), func(c string) bool { return slices.Contains(l.Key, c) })
	}
	switch {
	case !l.Identity && !mapped:
		return "the publication carries its changes, but the table has no replica identity",
			"give the table a primary key, or take it out of publication " + s.quoted()
	case !l.Identity && len(s.Tables) > 1:
		return "the publication carries its changes, but the table has no replica identity",
			"give the table a primary key, or take it out of postgres.tables and of publication " + s.quoted()
	case !l.Identity:
		return "the publication carries its changes, but the table has no replica identity",
			"give the table a primary key, or " + again + ", or take the table out of publication " + s.quoted()
	case l.Full && t.Listed != nil:
		return "the publication has a column list, but the replica identity is every column",
			fix("take the column list off publication " + s.quoted() + ", or set the table's replica identity to its key")
	case t.Listed != nil && !containsAll(t.Listed, l.Key):
		return "the publication's column list leaves out a part of the replica identity, " + list(l.Key),
			fix("add it to the column list of publication " + s.quoted())
	case !l.Full && len(outside(t.filterReads)) > 0:
		return "the publication's row filter reads " + list(outside(t.filterReads)) + ", which the replica identity does not contain",
			fix("take the row filter off publication " + s.quoted() + ", or let it read key columns only")
	case l.Full && len(l.Virtual) > 0:
		return fmt.Sprintf("the replica identity is every column, and %s %s virtual, which cannot be published", list(l.Virtual), isAre(l.Virtual)),
			"set the table's replica identity to its key, or " + again
	case !s.Stored && t.Listed == nil && len(l.unpublished()) > 0:
		return fmt.Sprintf("the replica identity contains %s, which %s generated and not published", list(l.unpublished()), isAre(l.unpublished())),
			fix("run ALTER PUBLICATION " + s.quoted() + " SET (publish_generated_columns = stored)")
	}
	return "", ""
}

// unpublished are the stored generated columns of the replica identity.
func (l leaf) unpublished() []string {
	if l.Full {
		return l.Stored
	}
	return slices.DeleteFunc(slices.Clone(l.Stored), func(c string) bool { return !slices.Contains(l.Key, c) })
}

func containsAll(all, some []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(all, s) })
}

func isAre(names []string) string {
	if len(names) == 1 {
		return "is"
	}
	return "are"
}

// list joins names as a sentence does.
func list(names []string) string {
	if n := len(names); n > 1 {
		return strings.Join(names[:n-1], ", ") + " and " + names[n-1]
	}
	return strings.Join(names, "")
}
