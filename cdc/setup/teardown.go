package setup

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Teardown plans the removal of what Prepare's plan made, and of nothing else:
// the publication and the role when they carry setup's mark, the slot when the
// publication does. What was there before is named and left.
func Teardown(ctx context.Context, conn *pgx.Conn, cfg Config) (Plan, error) {
	cfg.Tables = nil // they are left as they are, and may be gone already
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
	if s.publication != nil {
		step := Step{SQL: "DROP PUBLICATION " + quote(cfg.Publication), Needed: marked}
		step.Comment = "After its slot: a slot cannot be read without its publication."
		if !marked {
			step.Comment = "Publication " + cfg.Publication + " is left: setup did not make it."
		}
		p.Steps = append(p.Steps, step)
	}
	if !s.role.exists {
		return p, nil
	}
	grants, err := grantsOf(ctx, conn, cfg.Role)
	if err != nil {
		return Plan{}, fmt.Errorf("read grants of role %q: %w", cfg.Role, err)
	}
	for _, revoke := range grants {
		step := Step{Comment: "A role with privileges cannot be dropped.", SQL: revoke, Needed: s.role.marked}
		if !s.role.marked {
			step.Comment = "Setup did not make the role, so its privileges are left."
		}
		p.Steps = append(p.Steps, step)
	}
	role := Step{Comment: "The role that setup made.", SQL: "DROP ROLE " + quote(cfg.Role), Needed: s.role.marked}
	if !s.role.marked {
		role.Comment = "Role " + cfg.Role + " is left: setup did not make it."
	}
	p.Steps = append(p.Steps, role)
	return p, nil
}

// grantsOf gives statements that revoke what setup grants: SELECT on tables
// and columns, and USAGE on schemas, as the catalog has it now.
func grantsOf(ctx context.Context, conn *pgx.Conn, role string) ([]string, error) {
	rows, err := conn.Query(ctx, `
WITH r AS (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $1)
SELECT pg_catalog.format('REVOKE SELECT (%s) ON TABLE %I.%I FROM %I',
         string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY a.attnum), n.nspname, c.relname, $1::text)
FROM r, pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace,
LATERAL pg_catalog.aclexplode(a.attacl) g
WHERE g.grantee = r.oid AND g.privilege_type = 'SELECT'
GROUP BY n.nspname, c.relname
UNION ALL
SELECT pg_catalog.format('REVOKE SELECT ON TABLE %I.%I FROM %I', n.nspname, c.relname, $1::text)
FROM r, pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace,
LATERAL pg_catalog.aclexplode(c.relacl) g
WHERE g.grantee = r.oid AND g.privilege_type = 'SELECT'
UNION ALL
SELECT pg_catalog.format('REVOKE USAGE ON SCHEMA %I FROM %I', n.nspname, $1::text)
FROM r, pg_catalog.pg_namespace n, LATERAL pg_catalog.aclexplode(n.nspacl) g
WHERE g.grantee = r.oid AND g.privilege_type = 'USAGE'`, role)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
