package setup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"newswire/cdc/publication"
)

// failoverVersion is the first server whose slots a standby can take over.
const failoverVersion = 170000

// Prepare plans what the server still needs: publication, role, grants, and
// then the slot, because it cannot read changes older than its publication.
func Prepare(ctx context.Context, conn *pgx.Conn, cfg Config, o Options) (Plan, error) {
	s, err := inspect(ctx, conn, cfg)
	if err != nil {
		return Plan{}, err
	}
	if s.slot.exists && !s.slot.usable {
		return Plan{}, fmt.Errorf("replication slot %q exists, but not for pgoutput in this database; choose another name in postgres.slot", cfg.Slot)
	}
	if err := s.permits(); err != nil {
		return Plan{}, err
	}
	if o.Minimal && len(cfg.Queries) > 0 {
		return Plan{}, fmt.Errorf("%s needs SELECT on what it reads, which --minimal does not grant; leave out --minimal, or take the tags from columns", cfg.Queries[0].Key)
	}
	var reads []Table
	surplus, err := surplusOf(ctx, conn, cfg, s, o)
	if err != nil {
		return Plan{}, err
	}
	for _, g := range surplus { // which steps of its own tell of
		reads = append(reads, Table{Schema: g.Schema, Name: g.Table, Columns: g.Columns})
	}
	for _, t := range slices.Concat(s.tables, s.reads) {
		reads = append(reads, Table{Schema: t.Schema, Name: t.Name, Columns: t.columns()})
	}
	excess, err := ExcessOf(ctx, conn, cfg.Role, reads)
	if err != nil {
		return Plan{}, err
	}
	p := Plan{Obstacle: s.obstacle()}
	for _, g := range surplus { // before the publication, by which it is known
		p.Steps = append(p.Steps, g.step(cfg, o))
	}
	p.Steps = append(p.Steps, publicationSteps(cfg, s, o)...)
	p.Steps = append(p.Steps, recordStep(cfg, s, o)...)
	p.Steps = append(p.Steps, roleStep(cfg, s.role))
	if !o.Minimal {
		p.Steps = append(p.Steps, grantSteps(cfg, s)...)
	}
	p.Steps = append(p.Steps, excess.steps(cfg)...)
	p.Steps = append(p.Steps, slotSteps(cfg, s, o)...)
	p.Steps = append(p.Steps, s.unnoted(cfg, o)...)
	return p, nil
}

// obstacle is what keeps the server from having a slot. Nothing is made before
// it is out of the way: a plan that ends in the middle leaves half of itself.
func (s state) obstacle() string {
	if s.slot.exists || s.level == "logical" {
		return ""
	}
	return "wal_level is " + s.level + ", which carries no row changes; run ALTER SYSTEM SET wal_level = 'logical', restart PostgreSQL, and run this again"
}

func roleStep(cfg Config, r roleState) Step {
	role := quote(cfg.Role)
	if !r.exists {
		return Step{
			Comment: "The role that the engine logs in as. It can read every row that is replicated, so keep it to the engine.\n" +
				"No password is set here: use ALTER ROLE " + role + " PASSWORD '…', a certificate or peer authentication.",
			SQL: "CREATE ROLE " + role + " LOGIN REPLICATION;\n" +
				"COMMENT ON ROLE " + role + " IS " + literal(Mark),
			Undo:   "DROP ROLE " + role,
			Needed: true,
		}
	}
	missing := r.missing()
	if len(missing) == 0 {
		return Step{Comment: "Role " + role + " can log in and replicate already."}
	}
	return Step{
		Comment: "The role exists; it still has to log in and to replicate.",
		SQL:     "ALTER ROLE " + role + " " + strings.Join(missing, " "),
		Undo:    "ALTER ROLE " + role + " NO" + strings.Join(missing, " NO"),
		Needed:  true,
	}
}

// grantSteps let the role read the mapped columns, and nothing else.
func grantSteps(cfg Config, s state) (steps []Step) {
	role := quote(cfg.Role)
	opened := make(map[string]bool)
	for _, t := range slices.Concat(s.tables, s.reads) {
		if !opened[t.Schema] {
			opened[t.Schema] = true
			steps = append(steps, Step{
				Comment: "To name tables in schema " + t.Schema + ".",
				SQL:     "GRANT USAGE ON SCHEMA " + quote(t.Schema) + " TO " + role,
				Undo:    "REVOKE USAGE ON SCHEMA " + quote(t.Schema) + " FROM " + role,
				Needed:  !t.schemaOpen,
			})
		}
		what := "SELECT"
		switch columns := t.columns(); {
		case len(t.hidden) > 0 && !t.readable:
			what += " (" + quoteAll(t.hidden) + ")"
		case columns != nil:
			what += " (" + quoteAll(columns) + ")"
		}
		why := "To compare " + t.String() + " with what was delivered, after a gap: key and mapped columns only."
		switch {
		case t.onlyRead:
			why = "To find the tags: what the configured query reads of " + t.String() + "."
		case len(t.reads) > 0:
			why = "To compare " + t.String() + " with what was delivered, after a gap, and to find the tags: key, mapped columns, and what the configured query reads."
		}
		steps = append(steps, Step{
			Comment: why,
			SQL:     "GRANT " + what + " ON TABLE " + t.quoted() + " TO " + role,
			Undo:    "REVOKE " + what + " ON TABLE " + t.quoted() + " FROM " + role,
			Needed:  t.lacksRights(),
		})
	}
	return steps
}

// slotSteps make the slot, unless a journal was read from one that is gone.
func slotSteps(cfg Config, s state, o Options) []Step {
	if s.slot.exists || o.Journal == "" {
		return append([]Step{slotStep(cfg, s)}, noteStep(cfg, s)...)
	}
	return []Step{{Comment: "Replication slot " + cfg.Slot + " is not made here: the journal ends at " + o.Journal + ", and a new slot has nothing of what was committed since.\n" +
		"Run newswire resync, which makes one, and makes up from the tables for what was missed."}}
}

func slotStep(cfg Config, s state) Step {
	switch {
	case s.slot.exists && s.publication != nil:
		return Step{Comment: "Replication slot " + cfg.Slot + " exists already."}
	case s.slot.exists:
		return Step{Comment: "Replication slot " + cfg.Slot + " exists, but it is older than the publication and cannot read changes from before it.\n" +
			"If the engine reports that the publication does not exist, drop the slot and run this again."}
	}
	arguments := literal(cfg.Slot) + ", 'pgoutput'"
	why := "The server's bookmark. From now on it keeps what the engine has not confirmed: limit that with max_slot_wal_keep_size,\n" +
		"and drop the slot when the engine is taken away for good."
	if s.version >= failoverVersion {
		arguments += ", failover => true"
		why += " A standby that synchronises slots can take it over."
	}
	return Step{
		Comment: why,
		SQL:     "SELECT pg_catalog.pg_create_logical_replication_slot(" + arguments + ")",
		Undo:    dropSlot(cfg),
		Needed:  true,
	}
}

func dropSlot(cfg Config) string {
	return "SELECT pg_catalog.pg_drop_replication_slot(" + literal(cfg.Slot) + ")"
}

// ErrSlotActive reports a slot that something still reads.
var ErrSlotActive = errors.New("the replication slot is being read")

// noteStep keeps where the slot that the plan makes begins.
func noteStep(cfg Config, s state) []Step {
	if s.slot.exists || s.publication != nil && !s.publication.Marked {
		return nil // a comment of somebody else's is left alone
	}
	return []Step{{
		Comment: "Where the slot begins stands in the publication's comment, and goes with it: PostgreSQL does not keep it. By that the\n" +
			"engine tells a slot that nobody has read yet from one whose news is in a journal that was lost.",
		SQL:    publication.NoteSlot(cfg.Publication, cfg.Slot),
		Needed: true,
	}}
}
