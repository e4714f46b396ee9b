package setup

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Excess is what a role may SELECT besides what is mapped: names of tables,
// with the columns where the table itself is mapped.
type Excess struct {
	Public []string // because everybody may: that cannot be taken from one role
	Own    []string // by grants to the role, or to one that it is a member of
}

// Views and tables of extensions are meant for everybody.
const excessQuery = `
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) || CASE
    WHEN EXISTS (SELECT FROM unnest($2::text[], $3::text[]) m (s, t) WHERE m.s = n.nspname AND m.t = c.relname)
    THEN ' (' || string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) || ')' ELSE '' END,
  bool_and(pg_catalog.has_schema_privilege('public', n.oid, 'USAGE') AND pg_catalog.has_column_privilege('public', c.oid, a.attnum, 'SELECT'))
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  AND pg_catalog.has_schema_privilege($1, n.oid, 'USAGE') AND pg_catalog.has_column_privilege($1, c.oid, a.attnum, 'SELECT')
  AND NOT EXISTS (SELECT FROM unnest($2::text[], $3::text[], $4::text[]) m (s, t, col)
    WHERE m.s = n.nspname AND m.t = c.relname AND (m.col IS NULL OR m.col = a.attname))
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
GROUP BY n.nspname, c.relname ORDER BY 1`

// ExcessOf looks for it; of a role that does not exist yet at what everybody
// may. The columns of a mapped table are those that the role has to read.
// Partitions count as tables of their own.
func ExcessOf(ctx context.Context, conn *pgx.Conn, role string, mapped []Table) (e Excess, err error) {
	var exists bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1::text)", role).Scan(&exists); err != nil {
		return e, fmt.Errorf("read role %q: %w", role, err)
	}
	if !exists {
		role = "public"
	}
	var schemas, tables []string
	var columns []*string // nil: all
	for _, t := range mapped {
		if len(t.Columns) == 0 {
			schemas, tables, columns = append(schemas, t.Schema), append(tables, t.Name), append(columns, nil)
		}
		for _, c := range t.Columns {
			schemas, tables, columns = append(schemas, t.Schema), append(tables, t.Name), append(columns, &c)
		}
	}
	rows, err := conn.Query(ctx, excessQuery, role, schemas, tables, columns)
	if err != nil {
		return e, fmt.Errorf("read rights of %q: %w", role, err)
	}
	var name string
	var everybody bool
	_, err = pgx.ForEachRow(rows, []any{&name, &everybody}, func() error {
		if everybody {
			e.Public = append(e.Public, name)
		} else {
			e.Own = append(e.Own, name)
		}
		return nil
	})
	if err != nil {
		return e, fmt.Errorf("read rights of %q: %w", role, err)
	}
	return e, nil
}

// steps tell, as comments, what setup cannot take away.
func (e Excess) steps(cfg Config) (steps []Step) {
	if len(e.Public) > 0 {
		steps = append(steps, Step{Comment: "PUBLIC, and so this role too, may SELECT " + Few(e.Public) + ". Setup cannot take that from one role:\n" +
			"REVOKE it FROM PUBLIC where nobody needs it."})
	}
	if len(e.Own) > 0 {
		steps = append(steps, Step{Comment: "Role " + quote(cfg.Role) + " may SELECT " + Few(e.Own) + " besides, by grants of which nothing shows that setup made them. They are left."})
	}
	return steps
}

// Few joins names, and counts those beyond the fifth.
func Few(names []string) string {
	const most = 5
	if n := len(names); n > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), n-most)
	}
	return strings.Join(names, ", ")
}
