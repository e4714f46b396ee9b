// Package setup says in SQL what a server needs for Newswire to read it, and
// what takes that away again. It changes nothing until a plan is applied, a
// plan only does what does not stand as wanted already, and no plan alters a
// table: editors can save whatever they could save before.
package setup

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"newswire/cdc/publication"
)

// Config names what is to be set up. All names are as PostgreSQL stores them.
type Config struct {
	Role        string // that the engine logs in as
	Slot        string
	Publication string
	Tables      []Table
	Queries     []Query
}

// Table is a table whose rows are read.
type Table publication.Wish

// Query is one that the engine asks about the rows of a table.
type Query struct {
	Key           string // of the configuration, such as postgres.tables[0].tags.query
	Schema, Table string // whose rows it is asked about
	Alias         string // what the query calls the row
	Parameters    int    // the highest one

	// Expression asks it, of a row whose key has these columns, which must be
	// as many as the parameters.
	Expression func(key []string) string
}

// Options choose between plans.
type Options struct {
	Minimal bool // no SELECT for the role: enough to stream, not to compare tables
	Whole   bool // no column list and no row filter in a publication of setup's

	// Journal is up to where the engine's journal was read from the slot; "" when
	// it is empty, or not known. A slot that is missing is then not made.
	Journal string
}

// Mark is the comment on what setup has made, by which Teardown knows it.
const Mark = publication.Mark

// Plan is a list of steps, to be read or applied.
type Plan struct {
	Steps    []Step
	Obstacle string // what has to be done before, in a sentence; "" when nothing has
}

// Step is one thing to do.
type Step struct {
	Comment string // why, in sentences
	SQL     string // statements, without the last semicolon
	Undo    string // takes it back; "" when nothing does
	Needed  bool   // false when it stands as wanted, or must be left alone
}

// String prints the plan as a script that psql runs: what is not needed, and
// what would undo it, stand in it as comments.
func (p Plan) String() string {
	var b strings.Builder
	if p.Obstacle != "" {
		comment(&b, "First: "+p.Obstacle+".")
		b.WriteByte('\n')
	}
	for i, s := range p.Steps {
		if i > 0 {
			b.WriteByte('\n')
		}
		comment(&b, s.Comment)
		switch {
		case s.SQL == "":
		case s.Needed:
			b.WriteString(s.SQL + ";\n")
		default:
			comment(&b, "not run: "+s.SQL+";")
		}
		if s.Undo != "" {
			comment(&b, "undo: "+s.Undo+";")
		}
	}
	return b.String()
}

func comment(b *strings.Builder, text string) {
	for line := range strings.SplitSeq(text, "\n") {
		b.WriteString("-- " + line + "\n")
	}
}

// Needed tells whether anything is left to do.
func (p Plan) Needed() bool {
	for _, s := range p.Steps {
		if s.Needed {
			return true
		}
	}
	return false
}

// Apply runs the steps that are needed, in order, each as a transaction of its
// own: PostgreSQL makes no slot in a transaction that has written. It stops at
// the first that fails; what was done stays, and the next plan goes on there.
func (p Plan) Apply(ctx context.Context, conn *pgx.Conn) error {
	if p.Obstacle != "" {
		return errors.New(p.Obstacle)
	}
	for _, s := range p.Steps {
		if !s.Needed {
			continue
		}
		if _, err := conn.Exec(ctx, s.SQL, pgx.QueryExecModeSimpleProtocol); err != nil {
			_, _ = conn.Exec(ctx, "ROLLBACK") // of a step with a BEGIN; elsewhere the server only notes it
			return fmt.Errorf("run %q: %w", s.SQL, err)
		}
	}
	return nil
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

func quoteAll(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = quote(n)
	}
	return strings.Join(quoted, ", ")
}

// literal quotes a text; newlines and backslashes stand for themselves under
// standard_conforming_strings, which is PostgreSQL's default.
func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
