package setup

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// Teardown plans the removal of what Prepare's plan made, and of nothing else:
// the publication and the role when they carry setup's mark, the slot when the
// publication does, and of a role that was there before what it was given. What
// else was there is named and left.
func Teardown(ctx context.Context, conn *pgx.Conn, cfg Config) (Plan, error) {
	cfg.Tables, cfg.Queries = nil, nil // they are left as they are, and may be gone already
	s, err := inspect(ctx, conn, cfg)
	if err != nil {
		return Plan{}, err
	}
	marked := s.publication != nil && s.publication.Marked
	ours := marked && s.slot.usable
	if ours && s.slot.active {
		return Plan{}, fmt.Errorf("%w: stop `newswire serve` before slot %q can be dropped", ErrSlotActive, cfg.Slot)
	}
	var p Plan
	if s.slot.exists {
		step := Step{Comment: "With the slot goes the position: what the engine has not read is not read any more.", SQL: dropSlot(cfg), Needed: ours}
		if !ours {
			step.Comment = "Replication slot " + cfg.Slot + " is left: nothing shows that setup made it. As long as it exists, the server keeps log for it."
		}
		p.Steps = append(p.Steps, step)
	}
	rights, err := takeAway(ctx, conn, cfg, s)
	if err != nil {
		return Plan{}, fmt.Errorf("read grants of role %q: %w", cfg.Role, err)
	}
	p.Steps = append(p.Steps, rights...) // before the publication, whose comment tells of them
	if s.publication != nil {
		step := Step{SQL: "DROP PUBLICATION " + quote(cfg.Publication), Needed: marked}
		step.Comment = "After its slot: a slot cannot be read without its publication."
		if !marked {
			step.Comment = "Publication " + cfg.Publication + " is left: setup did not make it."
		}
		p.Steps = append(p.Steps, step)
	}
	switch {
	case s.role.marked:
		p.Steps = append(p.Steps, Step{Comment: "The role that setup made.", SQL: "DROP ROLE " + quote(cfg.Role), Needed: true})
	case s.role.exists:
		p.Steps = append(p.Steps, Step{Comment: "Role " + cfg.Role + " is left: setup did not make it.", SQL: "DROP ROLE " + quote(cfg.Role)})
	}
	return p, nil
}

// takeAway plans the end of the role's rights: all that setup gives, where it
// made the role, else what it has noted.
func takeAway(ctx context.Context, conn *pgx.Conn, cfg Config, s state) (steps []Step, err error) {
	if !s.role.exists {
		return nil, nil
	}
	grants, err := grantsOf(ctx, conn, cfg.Role)
	if err != nil {
		return nil, err
	}
	if s.role.marked {
		for _, g := range grants {
			steps = append(steps, Step{Comment: "A role with privileges cannot be dropped.", SQL: g.revoke(cfg.Role, nil), Needed: true})
		}
		return steps, nil
	}
	noted := recordOf(s.publication, cfg.Role)
	for _, g := range grants {
		columns, ours := g.noted(noted)
		step := Step{Comment: "The role was there before setup, and was given this by it.", SQL: g.revoke(cfg.Role, columns), Needed: ours}
		if ours && g.Table != "" && len(g.Columns) == 0 {
			step.SQL = g.revokeWhole(cfg.Role, g.keeps(grants, noted))
		}
		if !ours {
			step.Comment = "Nothing shows that setup gave the role this, so it is left."
		}
		steps = append(steps, step)
	}
	return slices.Concat(steps, noted.attributes(s.role), noted.leftAttributes(s.role)), nil
}

// grant is a right that the role has itself.
type grant struct {
	Schema  string
	Table   string   // "": USAGE on the schema, else SELECT on the table
	Columns []string // of the table; none: the whole
}

// noted tells whether setup gave it, and of columns which.
func (g grant) noted(r record) (columns []string, ours bool) {
	if g.Table == "" {
		return nil, slices.Contains(r.Schemas, g.Schema)
	}
	for _, t := range r.Tables {
		if t.Schema != g.Schema || t.Name != g.Table || (len(t.Columns) == 0) != (len(g.Columns) == 0) {
			continue
		}
		for _, c := range t.Columns {
			if slices.Contains(g.Columns, c) {
				columns = append(columns, c)
			}
		}
		return columns, len(g.Columns) == 0 || len(columns) > 0
	}
	return nil, false
}

// revoke takes the right back; of columns only those given, or else all.
func (g grant) revoke(role string, columns []string) string {
	if columns == nil {
		columns = g.Columns
	}
	switch {
	case g.Table == "":
		return "REVOKE USAGE ON SCHEMA " + quote(g.Schema) + " FROM " + quote(role)
	case len(columns) > 0:
		return "REVOKE SELECT (" + quoteAll(columns) + ") ON TABLE " + quote(g.Schema) + "." + quote(g.Table) + " FROM " + quote(role)
	}
	return "REVOKE SELECT ON TABLE " + quote(g.Schema) + "." + quote(g.Table) + " FROM " + quote(role)
}

// give undoes revoke.
func (g grant) give(role string) string {
	switch {
	case g.Table == "":
		return "GRANT USAGE ON SCHEMA " + quote(g.Schema) + " TO " + quote(role)
	case len(g.Columns) > 0:
		return "GRANT SELECT (" + quoteAll(g.Columns) + ") ON TABLE " + quote(g.Schema) + "." + quote(g.Table) + " TO " + quote(role)
	}
	return "GRANT SELECT ON TABLE " + quote(g.Schema) + "." + quote(g.Table) + " TO " + quote(role)
}

// grantsOf gives what setup grants, as the catalog has it now: SELECT on tables
// and columns, and USAGE on schemas.
func grantsOf(ctx context.Context, conn *pgx.Conn, role string) ([]grant, error) {
	rows, err := conn.Query(ctx, `
WITH r AS (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $1)
SELECT n.nspname::text, c.relname::text, array_agg(a.attname::text ORDER BY a.attnum)
FROM r, pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace,
LATERAL pg_catalog.aclexplode(a.attacl) g
WHERE g.grantee = r.oid AND g.privilege_type = 'SELECT'
GROUP BY n.nspname, c.relname
UNION ALL
SELECT n.nspname, c.relname, NULL
FROM r, pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace,
LATERAL pg_catalog.aclexplode(c.relacl) g
WHERE g.grantee = r.oid AND g.privilege_type = 'SELECT'
UNION ALL
SELECT n.nspname, '', NULL
FROM r, pg_catalog.pg_namespace n, LATERAL pg_catalog.aclexplode(n.nspacl) g
WHERE g.grantee = r.oid AND g.privilege_type = 'USAGE'`, role)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[grant])
}
