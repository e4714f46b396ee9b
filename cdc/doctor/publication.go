package doctor

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"newswire/cdc/publication"
)

func (e *examination) quotedPublication() string {
	return pgx.Identifier{e.cfg.Publication}.Sanitize()
}

func (e *examination) examinePublication(ctx context.Context) (err error) {
	if e.pub, err = publication.Read(ctx, e.conn, e.cfg.Publication); err != nil {
		return err
	}
	if e.pub == nil {
		e.fatal("publication", e.cfg.Publication, setupRemedy, "the publication does not exist")
		return nil
	}
	e.ok("publication", e.cfg.Publication, "the publication exists")
	e.operations(e.pub)
	return nil
}

func (e *examination) operations(p *publication.State) {
	const check = "publication-operations"
	if !p.Insert {
		e.fatal(check, e.cfg.Publication, setupRemedy, "the publication does not publish inserts")
	}
	missing := p.Unpublished()
	switch {
	case len(missing) > 0:
		e.warn(check, e.cfg.Publication, "give every table a primary key and "+setupRemedy,
			"the publication does not publish %s, so readers miss the corrections and retractions made by them", list(missing))
	case p.Insert:
		e.ok(check, e.cfg.Publication, "inserts, updates, deletes and truncates are published")
	}
}

// publishedTables examines what the publication carries of each mapped table,
// and what besides.
func (e *examination) publishedTables(ctx context.Context) error {
	if e.pub == nil {
		return nil // told already
	}
	if err := e.starved(ctx); err != nil {
		return err
	}
	for _, t := range e.tables {
		carried := e.pub.Table(t.Schema, t.Name)
		if carried == nil {
			e.notCarried(t)
			continue
		}
		e.ok("publication-tables", t.String(), "the publication carries the table")
		e.listed(t, carried)
		if len(t.unusable) > 0 {
			continue
		}
		shape, err := publication.ShapeOf(ctx, e.conn, t.wish())
		if err != nil {
			return err
		}
		fit := shape.Fit(e.pub.Fails() != "")
		e.columnList(t, carried, fit)
		e.rowFilter(t, carried, fit)
	}
	if !e.toldFatal("table") && !e.toldFatal("publication-tables") { // else it may be what is meant
		e.excess()
	}
	return nil
}

// starved looks for mapped tables that keep the changes of others unpublished.
func (e *examination) starved(ctx context.Context) error {
	var shapes []publication.Shape
	for _, t := range e.tables {
		shape, err := publication.ShapeOf(ctx, e.conn, publication.Wish{Schema: t.Schema, Name: t.Name})
		if err != nil {
			return err
		}
		shapes = append(shapes, shape)
	}
	if starved := publication.Starves(shapes); starved != nil {
		e.fatal("publication-operations", e.cfg.Publication, starved.Remedy(), "%s", starved.Why())
	}
	return nil
}

// notCarried tells why the rows of a table do not come under its name.
func (e *examination) notCarried(t foundTable) {
	const check = "publication-tables"
	switch {
	case t.partitioned && !e.pub.ViaRoot:
		e.fatal(check, t.String(), fmt.Sprintf("%s, or ALTER PUBLICATION %s SET (publish_via_partition_root = true)", setupRemedy, e.quotedPublication()),
			"publication %q publishes the rows of this partitioned table under the names of its partitions, if at all", e.cfg.Publication)
	case t.leaf != "" && e.pub.ViaRoot:
		e.fatal(check, t.String(), fmt.Sprintf("name %s in %s", t.leaf, t.named()),
			"publication %q publishes the rows of this partition under the name of %s", e.cfg.Publication, t.leaf)
	default:
		e.fatal(check, t.String(), fmt.Sprintf("%s, or ALTER PUBLICATION %s ADD TABLE %s", setupRemedy, e.quotedPublication(), t.quoted()),
			"publication %q does not carry the table", e.cfg.Publication)
	}
}

// listed examines the publication's columns of the table; nil before version 15.
func (e *examination) listed(t foundTable, carried *publication.Table) {
	columns := carried.Columns
	if columns == nil {
		return
	}
	for _, c := range t.Columns {
		if !slices.Contains(columns, c.Name) && !slices.Contains(t.unusable, c.Name) {
			e.fatal("publication-tables", t.String(), e.pub.ListRemedy(*carried, c.Key), "publication %q does not carry column %s", e.cfg.Publication, c.Name)
		}
	}
}

// columnList tells which columns leave the database.
func (e *examination) columnList(t foundTable, carried *publication.Table, fit publication.Fit) {
	const check = "publication-columns"
	switch {
	case slices.Equal(carried.Listed, fit.Columns) && fit.Columns != nil:
		e.ok(check, t.String(), "only %s leave the database", list(fit.Columns))
	case carried.Listed != nil:
		e.ok(check, t.String(), "only %s leave the database, by the publication's own column list", list(carried.Listed))
	case e.pub.All:
		e.ok(check, t.String(), "every column leaves the database, and the engine drops those that are not mapped: a publication FOR ALL TABLES takes no column list")
	case e.pub.Schemas:
		e.ok(check, t.String(), "every column leaves the database, and the engine drops those that are not mapped: a publication with TABLES IN SCHEMA takes no column list")
	case fit.Columns == nil:
		e.ok(check, t.String(), "every column leaves the database, and the engine drops those that are not mapped: %s", fit.WhyAll)
	case e.pub.Marked:
		e.warn(check, t.String(), setupRemedy, "every column leaves the database, where %s would do", list(fit.Columns))
	default:
		e.ok(check, t.String(), "every column leaves the database, and the engine drops those that are not mapped; a column list of %s would do", list(fit.Columns))
	}
}

// rowFilter tells which rows leave the database.
func (e *examination) rowFilter(t foundTable, carried *publication.Table, fit publication.Fit) {
	const check = "publication-filter"
	switch {
	case carried.Filter != "" && e.pub.Marked && carried.Filter != fit.Filter:
		e.fatal(check, t.String(), setupRemedy, "only rows with %s leave the database, and the configuration asks for other ones: readers do not see those", carried.Filter)
	case carried.Filter != "" && t.Link:
		e.warn(check, t.String(), "take the filter off the publication", "the publication has the row filter %s: the other rows tie articles to their tags, too", carried.Filter)
	case t.Link:
		e.ok(check, t.String(), "every row leaves the database: it ties articles to their tags")
	case carried.Filter != "" && t.News == nil && t.Why == "":
		e.warn(check, t.String(), fmt.Sprintf("set %s.published to the same condition, or take the filter off the publication", t.Key),
			"the publication has the row filter %s, of which the configuration knows nothing: readers do not see the other rows", carried.Filter)
	case carried.Filter != "" && t.News != nil && carried.Filter != fit.Filter:
		e.warn(check, t.String(), "see that every row with published holds for the filter, too", "the publication has a row filter of its own, %s: readers do not see the other rows", carried.Filter)
	case carried.Filter != "":
		e.ok(check, t.String(), "only rows with %s leave the database", carried.Filter)
	case fit.WhyEvery != "":
		e.ok(check, t.String(), "every row leaves the database, drafts too, and the engine drops those that are no news: %s", fit.WhyEvery)
	case fit.Filter != "" && e.pub.All:
		e.ok(check, t.String(), "every row leaves the database, drafts too, and the engine drops those that are no news: a publication FOR ALL TABLES takes no row filter")
	case fit.Filter != "" && e.pub.Marked:
		e.warn(check, t.String(), setupRemedy, "every row leaves the database, drafts too, where those with %s would do", fit.Filter)
	case fit.Filter != "":
		e.ok(check, t.String(), "every row leaves the database, drafts too, and the engine drops those that are no news; the row filter %s would do", fit.Filter)
	default:
		e.ok(check, t.String(), "every row is news, and leaves the database")
	}
}

func (e *examination) mapped(schema, name string) bool {
	return slices.ContainsFunc(e.cfg.Tables, func(t Table) bool { return t.Schema == schema && t.Name == name })
}

// excess looks for tables that the publication carries for nobody: whoever has
// the role's password can read them in the stream.
func (e *examination) excess() {
	const check = "publication-excess"
	var unmapped []string
	for _, t := range e.pub.Tables {
		if !e.mapped(t.Schema, t.Name) {
			unmapped = append(unmapped, t.String())
		}
	}
	const most = 3
	switch n := len(unmapped); {
	case n == 0:
		e.ok(check, e.cfg.Publication, "the publication carries nothing that is not mapped")
		return
	case n > most:
		unmapped = append(unmapped[:most], fmt.Sprintf("%d more", n-most))
	}
	remedy := fmt.Sprintf("run ALTER PUBLICATION %s DROP TABLE … for them, if no other engine needs them", e.quotedPublication())
	if e.pub.All || e.pub.Schemas {
		remedy = "name a publication in postgres.publication that does not exist yet, and " + setupRemedy
	}
	e.warn(check, e.cfg.Publication, remedy, "the publication carries %s, which no mapping names: their rows leave the database for nothing", list(unmapped))
}

// replicaIdentity looks for tables on which the publication makes UPDATE or
// DELETE fail: also those that are not mapped, because their editors suffer too.
func (e *examination) replicaIdentity(context.Context) error {
	const check = "replica-identity"
	if e.pub == nil {
		return nil // told already
	}
	fails := e.pub.Fails()
	if fails == "" {
		e.ok(check, e.cfg.Publication, "neither updates nor deletes are published, so none can fail")
		return nil
	}
	faults := e.pub.Faults(e.mapped)
	for _, f := range faults {
		e.fatal(check, f.Table, f.Remedy, "%s, so every %s on it fails", f.Why, fails)
	}
	if len(faults) == 0 {
		e.ok(check, e.cfg.Publication, "the replica identity of every published table permits %s", fails)
	}
	return nil
}
