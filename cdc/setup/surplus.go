package setup

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// needs is what the role has to read; none of a table's columns: all.
type needs []Table

// needs are those of the plan: nothing under Minimal.
func (s state) needs(o Options) (n needs) {
	if o.Minimal {
		return nil
	}
	for _, t := range slices.Concat(s.tables, s.reads) {
		n = append(n, Table{Schema: t.Schema, Name: t.Name, Columns: t.columns()})
	}
	return n
}

func (n needs) schema(schema string) bool {
	return slices.ContainsFunc(n, func(t Table) bool { return t.Schema == schema })
}

func (n needs) table(schema, name string) bool {
	return slices.ContainsFunc(n, func(t Table) bool { return t.Schema == schema && t.Name == name })
}

func (n needs) column(schema, name, column string) bool {
	return slices.ContainsFunc(n, func(t Table) bool {
		return t.Schema == schema && t.Name == name && (t.Columns == nil || slices.Contains(t.Columns, column))
	})
}

// wholeRow is a column that only a whole table has.
const wholeRow = ""

func (n needs) columns(schema, name string) (columns []string) {
	for _, t := range n {
		if t.Schema == schema && t.Name == name {
			columns = append(columns, t.Columns...)
		}
	}
	return columns
}

// surplusOf gives what setup has granted the role and the configuration does
// not need any more. Of a role of setup's own that is what it has on tables
// that are published, were, or are queried; of another one what is noted.
func surplusOf(ctx context.Context, conn *pgx.Conn, cfg Config, s state, o Options) (list []surplus, err error) {
	if !s.role.exists {
		return nil, nil
	}
	grants, err := grantsOf(ctx, conn, cfg.Role)
	if err != nil {
		return nil, fmt.Errorf("read grants of role %q: %w", cfg.Role, err)
	}
	needed := s.needs(o)
	known := s.needs(Options{}) // tables that setup gives, or gave, rights on
	for _, t := range s.left() {
		known = append(known, Table{Schema: t.Schema, Name: t.Name})
	}
	noted := recordOf(s.publication, cfg.Role)
	for _, g := range grants {
		columns, ours := g.Columns, g.Table == "" && known.schema(g.Schema) || known.table(g.Schema, g.Table)
		if !s.role.marked {
			columns, ours = g.noted(noted)
		}
		columns = slices.DeleteFunc(slices.Clone(columns), func(c string) bool { return needed.column(g.Schema, g.Table, c) })
		taken := surplus{grant: grant{g.Schema, g.Table, columns}}
		switch {
		case !ours, g.Table == "" && needed.schema(g.Schema), len(g.Columns) > 0 && len(columns) == 0, needed.column(g.Schema, g.Table, wholeRow):
			continue
		case g.Table == "", len(g.Columns) > 0:
		case !needed.table(g.Schema, g.Table):
			taken.keep = g.keeps(grants, noted)
		case s.role.marked:
			taken.keep = needed.columns(g.Schema, g.Table)
		default:
			continue // what else of it was there before, a note of columns could not tell
		}
		list = append(list, taken)
	}
	return list, nil
}

// surplus is a right to be taken back. SELECT on a whole table takes that on its
// columns with it, of which some may be there to stay.
type surplus struct {
	grant
	keep []string
}

// keeps are the columns that the role may SELECT by grants that are not noted.
func (g grant) keeps(grants []grant, noted record) (columns []string) {
	for _, other := range grants {
		if other.Schema != g.Schema || other.Table != g.Table || len(other.Columns) == 0 {
			continue
		}
		ours, _ := other.noted(noted)
		for _, c := range other.Columns {
			if !slices.Contains(ours, c) {
				columns = append(columns, c)
			}
		}
	}
	return columns
}

// revokeWhole takes SELECT on a table away and leaves that on columns.
func (g grant) revokeWhole(role string, keep []string) string {
	if len(keep) == 0 {
		return g.revoke(role, nil)
	}
	return "BEGIN;\n" + g.revoke(role, nil) + ";\n" + grant{g.Schema, g.Table, keep}.give(role) + ";\nCOMMIT"
}

// step takes back what is not needed.
func (g surplus) step(cfg Config, o Options) Step {
	step := Step{
		Comment: "Setup gave the role this, and the configuration does not need it any more.",
		SQL:     g.revokeWhole(cfg.Role, g.keep), Undo: g.give(cfg.Role), Needed: true,
	}
	if o.Minimal {
		step.Comment = "Setup gave the role this, and --minimal takes it back: with it go the silent first fill, resync and reading large values again."
	}
	return step
}
