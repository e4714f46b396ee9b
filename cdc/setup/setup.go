package setup

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// failoverVersion is the first server whose slots a standby can take over.
const failoverVersion = 170000

// Prepare plans what the server still needs: role, grants, publication and
// then the slot, because a slot cannot read changes older than its publication.
func Prepare(ctx context.Context, conn *pgx.Conn, cfg Config, o Options) (Plan, error) {
	s, err := inspect(ctx, conn, cfg)
	if err != nil {
		return Plan{}, err
	}
	if s.slot.exists && !s.slot.usable {
		return Plan{}, fmt.Errorf("replication slot %q exists, but not for pgoutput in this database; choose another name in postgres.slot", cfg.Slot)
	}
	p := Plan{Steps: []Step{roleStep(cfg, s.role)}}
	if !o.Minimal {
		p.Steps = append(p.Steps, grantSteps(cfg, s)...)
	}
	p.Steps = append(p.Steps, publicationSteps(cfg, s)...)
	p.Steps = append(p.Steps, slotStep(cfg, s))
	return p, nil
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
	var missing, undo []string
	if !r.login {
		missing, undo = append(missing, "LOGIN"), append(undo, "NOLOGIN")
	}
	if !r.replication && !r.super {
		missing, undo = append(missing, "REPLICATION"), append(undo, "NOREPLICATION")
	}
	if len(missing) == 0 {
		return Step{Comment: "Role " + role + " can log in and replicate already."}
	}
	return Step{
		Comment: "The role exists; it still has to log in and to replicate.",
		SQL:     "ALTER ROLE " + role + " " + strings.Join(missing, " "),
		Undo:    "ALTER ROLE " + role + " " + strings.Join(undo, " "),
		Needed:  true,
	}
}

// grantSteps let the role read the mapped columns, and nothing else.
func grantSteps(cfg Config, s state) (steps []Step) {
	role := quote(cfg.Role)
	opened := make(map[string]bool)
	for _, t := range s.tables {
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
		if columns := t.columns(); columns != nil {
			what += " (" + quoteAll(columns) + ")"
		}
		steps = append(steps, Step{
			Comment: "To compare " + t.String() + " with what was delivered, after a gap: key and mapped columns only.",
			SQL:     "GRANT " + what + " ON TABLE " + t.quoted() + " TO " + role,
			Undo:    "REVOKE " + what + " ON TABLE " + t.quoted() + " FROM " + role,
			Needed:  !t.readable,
		})
	}
	return steps
}

// publishes says which operations the publication can carry, and why. A table
// without replica identity in a publication of updates would make every UPDATE
// of the editors fail.
func publishes(tables []tableState) (operations, why string) {
	var without []string
	for _, t := range tables {
		if !t.identity {
			without = append(without, t.String())
		}
	}
	if len(without) == 0 {
		return "insert, update, delete, truncate", "Every table has a replica identity, so updates and deletes are published too."
	}
	return "insert, truncate", "Only new rows are published: " + strings.Join(without, ", ") +
		" has no replica identity, and publishing its updates would make every UPDATE and DELETE on it fail.\n" +
		"A primary key would change that."
}

func publicationSteps(cfg Config, s state) []Step {
	operations, why := publishes(s.tables)
	publication := quote(cfg.Publication)
	var names []string
	partitioned := false
	for _, t := range s.tables {
		names = append(names, t.quoted())
		partitioned = partitioned || t.partitioned
	}
	p := s.publication
	if !p.exists {
		with := "publish = " + literal(operations)
		if partitioned {
			with += ", publish_via_partition_root = true"
		}
		return []Step{{
			Comment: "What the slot carries. " + why,
			SQL: "CREATE PUBLICATION " + publication + " FOR TABLE " + strings.Join(names, ", ") + " WITH (" + with + ");\n" +
				"COMMENT ON PUBLICATION " + publication + " IS " + literal(Mark),
			Undo:   "DROP PUBLICATION " + publication,
			Needed: true,
		}}
	}
	var steps []Step
	if set, undo := alterations(p, s.tables, operations, partitioned); set != "" {
		// Before a table is added: it must never stand under operations that break its updates.
		steps = append(steps, Step{
			Comment: why,
			SQL:     "ALTER PUBLICATION " + publication + " SET (" + set + ")",
			Undo:    "ALTER PUBLICATION " + publication + " SET (" + undo + ")",
			Needed:  true,
		})
	}
	for _, t := range s.tables {
		if !p.all && !t.published {
			steps = append(steps, Step{
				Comment: "The publication exists without table " + t.String() + ".",
				SQL:     "ALTER PUBLICATION " + publication + " ADD TABLE " + t.quoted(),
				Undo:    "ALTER PUBLICATION " + publication + " DROP TABLE " + t.quoted(),
				Needed:  true,
			})
		}
	}
	if len(steps) == 0 {
		steps = []Step{{Comment: "Publication " + publication + " carries every table already."}}
	}
	return steps
}

// alterations are the parameters to change on an existing publication, and
// their present values; "" when none. One that setup did not make is widened
// only by what is missing and narrowed only where updates would fail.
func alterations(p publicationState, tables []tableState, wanted string, partitioned bool) (set, undo string) {
	insertOnly := !strings.Contains(wanted, "update")
	harmful := insertOnly && (p.update || p.delete)
	operations := p.operations()
	var sets, undos []string
	switch {
	case harmful, p.marked && operations != wanted:
		sets = append(sets, "publish = "+literal(wanted))
	case !p.insert:
		sets = append(sets, "publish = "+literal(strings.TrimSuffix("insert, "+operations, ", ")))
	}
	if len(sets) > 0 {
		undos = append(undos, "publish = "+literal(operations))
	}
	if partitioned && !p.viaRoot {
		sets = append(sets, "publish_via_partition_root = true")
		undos = append(undos, "publish_via_partition_root = false")
	}
	return strings.Join(sets, ", "), strings.Join(undos, ", ")
}

func (p publicationState) operations() string {
	var list []string
	for _, o := range []struct {
		name string
		on   bool
	}{{"insert", p.insert}, {"update", p.update}, {"delete", p.delete}, {"truncate", p.truncate}} {
		if o.on {
			list = append(list, o.name)
		}
	}
	return strings.Join(list, ", ")
}

func slotStep(cfg Config, s state) Step {
	switch {
	case s.slot.exists && s.publication.exists:
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
