package setup

import (
	"strings"

	"newswire/cdc/publication"
)

// carried is what the publication is to be.
type carried struct {
	changes     bool   // updates and deletes
	operations  string // as the parameter takes it
	why         string
	partitioned bool
	generated   bool
	fits        []publication.Fit // of the tables, in their order
}

// carry says what the publication can carry. A table without replica identity
// in a publication of updates would make every UPDATE of the editors fail.
func carry(tables []tableState, o Options) (c carried) {
	var without []string
	for _, t := range tables {
		if !t.Changes() {
			without = append(without, t.String())
		}
		c.partitioned = c.partitioned || t.Partitioned
	}
	c.changes = len(without) == 0
	c.operations, c.why = "insert, update, delete, truncate", "Every table has a replica identity, so updates and deletes are published too."
	if !c.changes {
		c.operations = "insert, truncate"
		c.why = "Only new rows are published: " + strings.Join(without, ", ") +
			" has no replica identity, and publishing its updates would make every UPDATE and DELETE on it fail.\n" +
			"A primary key would change that."
	}
	for _, t := range tables {
		f := t.Fit(c.changes)
		if o.Whole {
			f = t.Whole()
		}
		c.fits = append(c.fits, f)
		c.generated = c.generated || f.Generated
	}
	return c
}

// leaves tells what of a table's rows leaves the database.
func leaves(t tableState, f publication.Fit) string {
	what, rows := "only the listed columns", "of every row"
	if f.Columns == nil {
		what = "every column (" + f.WhyAll + ")"
	}
	switch {
	case f.Filter != "":
		rows = "of rows with " + f.Filter
	case f.WhyEvery != "":
		rows += " (" + f.WhyEvery + "; the engine drops what is no news)"
	}
	text := "Of " + t.String() + " there leave the database " + what + " " + rows + "."
	if f.Columns != nil || f.Filter != "" {
		text += "\nPostgreSQL then refuses to drop a column of the list or the filter, or to alter its type, before the table is taken off the publication\n" +
			"(setup --whole publishes whole rows instead); after a change of the table's primary key or replica identity run newswire setup again."
	}
	return text
}

func publicationSteps(cfg Config, s state, o Options) []Step {
	c := carry(s.tables, o)
	switch {
	case s.publication == nil:
		return []Step{createStep(cfg, s.tables, c)}
	case s.publication.Marked && !s.publication.All && !s.publication.Schemas:
		return ownSteps(cfg, s, c)
	}
	return foreignSteps(cfg, s, c)
}

func createStep(cfg Config, tables []tableState, c carried) Step {
	with := "publish = " + literal(c.operations)
	if c.partitioned {
		with += ", publish_via_partition_root = true"
	}
	if c.generated {
		with += ", publish_generated_columns = stored"
	}
	comment := "What the slot carries. " + c.why
	var entries []string
	for i, t := range tables {
		entries = append(entries, t.Entry(c.fits[i]))
		comment += "\n" + leaves(t, c.fits[i])
	}
	name := quote(cfg.Publication)
	return Step{
		Comment: comment,
		SQL: "CREATE PUBLICATION " + name + " FOR TABLE " + strings.Join(entries, ", ") + " WITH (" + with + ");\n" +
			"COMMENT ON PUBLICATION " + name + " IS " + literal(Mark),
		Undo:   "DROP PUBLICATION " + name,
		Needed: true,
	}
}

// ownSteps bring a publication that setup has made to what it would make now.
// Fewer operations come before the tables and more come behind them: at no
// moment may it carry changes of a table that does not permit that.
func ownSteps(cfg Config, s state, c carried) (steps []Step) {
	p := s.publication
	parameters := viaRoot(p, c)
	parameters.generated(p, c)
	publish := new(parameterChange)
	if p.Operations() != c.operations {
		publish.add("publish = ", literal(c.operations), literal(p.Operations()))
	}
	if !c.changes {
		parameters.append(publish)
		publish = new(parameterChange)
	}
	steps = parameters.step(cfg, steps, c.why)
	for i, t := range s.tables {
		if step := ownTable(cfg, p, t, c.fits[i]); step.SQL != "" {
			steps = append(steps, step)
		}
	}
	steps = append(steps, leaving(cfg, s)...)
	steps = publish.step(cfg, steps, c.why)
	if len(steps) == 0 {
		return nothing(cfg)
	}
	return steps
}

// leaving takes tables off the publication that the configuration does not name
// any more.
func leaving(cfg Config, s state) (steps []Step) {
	for _, t := range s.left() {
		alter := "ALTER PUBLICATION " + quote(cfg.Publication)
		steps = append(steps, Step{
			Comment: "The configuration does not name table " + t.String() + " any more. Start the engine with it first: one that still maps the table would miss its rows.",
			SQL:     alter + " DROP TABLE ONLY " + quote(t.Schema) + "." + quote(t.Name), Undo: alter + " ADD TABLE " + t.Entry(), Needed: true,
		})
	}
	return steps
}

// ownTable makes the publication carry just what is needed of a table. Taking
// it out and in again is one transaction: a commit in between would be lost.
func ownTable(cfg Config, p *publication.State, t tableState, f publication.Fit) Step {
	name := quote(cfg.Publication)
	drop, add := "ALTER PUBLICATION "+name+" DROP TABLE ", "ALTER PUBLICATION "+name+" ADD TABLE "
	now := p.Member(t.Schema, t.Name)
	switch {
	case now == nil && p.Table(t.Schema, t.Name) != nil: // as a partition of one that is carried
		return Step{}
	case now == nil:
		return Step{
			Comment: "The publication exists without table " + t.String() + ".\n" + leaves(t, f),
			SQL:     add + t.Entry(f), Undo: drop + t.quoted(), Needed: true,
		}
	case now.Is(f):
		return Step{}
	}
	swap := func(entry string) string {
		return "BEGIN;\n" + drop + t.quoted() + ";\n" + add + entry + ";\nCOMMIT"
	}
	return Step{
		Comment: "The publication carries other columns or rows of " + t.String() + " than the configuration needs.\n" + leaves(t, f) + "\n" +
			"A column that came to the configuration: run this before the engine starts with it. One that left: start the engine first.",
		SQL: swap(t.Entry(f)), Undo: swap(now.Entry()), Needed: true,
	}
}

// foreignSteps complete a publication that setup did not make: it is widened
// only by what is missing, and narrowed only where updates would fail.
func foreignSteps(cfg Config, s state, c carried) (steps []Step) {
	p := s.publication
	parameters := viaRoot(p, c)
	parameters.generated(p, c)
	switch {
	case !c.changes && (p.Update || p.Delete):
		parameters.add("publish = ", literal(c.operations), literal(p.Operations()))
	case !p.Insert:
		parameters.add("publish = ", literal(strings.TrimSuffix("insert, "+p.Operations(), ", ")), literal(p.Operations()))
	}
	// Before a table is added: it must never stand under operations that break its updates.
	steps = parameters.step(cfg, steps, c.why)
	name := quote(cfg.Publication)
	for _, t := range s.tables {
		if !p.All && p.Member(t.Schema, t.Name) == nil && p.Table(t.Schema, t.Name) == nil {
			steps = append(steps, Step{
				Comment: "The publication exists without table " + t.String() + ". Setup did not make it, so the whole table is added.",
				SQL:     "ALTER PUBLICATION " + name + " ADD TABLE " + t.Entry(publication.Fit{}),
				Undo:    "ALTER PUBLICATION " + name + " DROP TABLE " + t.quoted(),
				Needed:  true,
			})
		}
	}
	if len(steps) == 0 {
		return nothing(cfg)
	}
	return steps
}

func nothing(cfg Config) []Step {
	return []Step{{Comment: "Publication " + cfg.Publication + " carries every table already."}}
}

// parameterChange is a list of parameters of a publication, as they shall be
// and as they are.
type parameterChange struct{ set, undo []string }

func (c *parameterChange) add(parameter, value, before string) {
	c.set, c.undo = append(c.set, parameter+value), append(c.undo, parameter+before)
}

func (c *parameterChange) append(more *parameterChange) {
	c.set, c.undo = append(c.set, more.set...), append(c.undo, more.undo...)
}

func viaRoot(p *publication.State, c carried) *parameterChange {
	change := new(parameterChange)
	if c.partitioned && !p.ViaRoot {
		change.add("publish_via_partition_root = ", "true", "false")
	}
	return change
}

func (c *parameterChange) generated(p *publication.State, wanted carried) {
	if wanted.generated && !p.Stored {
		c.add("publish_generated_columns = ", "stored", "none")
	}
}

func (c *parameterChange) step(cfg Config, steps []Step, why string) []Step {
	if len(c.set) == 0 {
		return steps
	}
	alter := "ALTER PUBLICATION " + quote(cfg.Publication) + " SET ("
	return append(steps, Step{
		Comment: why, SQL: alter + strings.Join(c.set, ", ") + ")", Undo: alter + strings.Join(c.undo, ", ") + ")", Needed: true,
	})
}
