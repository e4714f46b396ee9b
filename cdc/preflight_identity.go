package cdc

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"

	"newswire/cdc/publication"
)

// identities checks that no table keeps the changes of others out of the
// publication, and that what happens to a row that waits is published.
func (p *preflight) identities(ctx context.Context) error {
	shapes := make(map[name]publication.Shape)
	var list []publication.Shape
	for _, n := range p.names() {
		shape, err := publication.ShapeOf(ctx, p.conn, publication.Wish{Schema: n.schema, Name: n.table})
		if errors.Is(err, publication.ErrMissing) {
			continue // told already
		} else if err != nil {
			return err
		}
		shapes[n], list = shape, append(list, shape)
	}
	if starved := publication.Starves(list); starved != nil {
		p.fault("%s; %s", starved.Why(), starved.Remedy())
		return nil
	}
	for _, t := range p.tables {
		if shape, found := shapes[t.name]; found && t.reached != nil {
			p.waits(t, shape)
		}
	}
	return nil
}

// names are the mapped tables and those that tie tags to them, each once.
func (p *preflight) names() (names []name) {
	seen := make(map[name]bool)
	add := func(n name) {
		if !seen[n] {
			seen[n], names = true, append(names, n)
		}
	}
	for _, t := range p.tables {
		add(t.name)
	}
	for _, t := range p.tables {
		for _, l := range t.links {
			add(l.name)
		}
	}
	return names
}

// waits checks that it will be seen when a row that waits is changed or gone.
func (p *preflight) waits(t *table, shape publication.Shape) {
	if !shape.Changes() {
		p.fault("table %s has no usable replica identity, so a row that is deleted or put off before the time in %s would go out nevertheless; give it a primary key, or use {column: …, equals: …}",
			t.name, t.reached.Column)
		return
	}
	if p.publication == nil {
		return // told already
	}
	if missing := p.publication.Unpublished(); len(missing) > 0 {
		p.fault("publication %q does not publish %s, so a row of %s that is deleted or put off before the time in %s would go out nevertheless; run ALTER PUBLICATION %s SET (publish = 'insert, update, delete, truncate')",
			p.cfg.Publication, strings.Join(missing, ", "), t.name, t.reached.Column, pgx.Identifier{p.cfg.Publication}.Sanitize())
	}
}
