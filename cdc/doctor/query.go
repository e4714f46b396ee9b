package doctor

import (
	"context"
	"fmt"
)

// queries examines the queries for tags: without an answer no article of their
// table can go out.
func (e *examination) queries(ctx context.Context) error {
	const check = "tags-query"
	if e.cfg.Ask == nil {
		return nil
	}
	for _, q := range e.cfg.Queries {
		object := q.Schema + "." + q.Table
		sentences, err := e.cfg.Ask(ctx, q)
		if err != nil {
			return fmt.Errorf("%s: %w", object, err)
		}
		for _, s := range sentences {
			message, remedy := splitRemedy(s)
			e.fatal(check, object, remedy, "%s", message)
		}
		if len(sentences) == 0 && e.pub != nil && e.exists(q.Schema, q.Table) {
			e.ok(check, object, "the role can ask the query for the tags, and the link tables tell whose tags they change")
		}
	}
	return nil
}

func (e *examination) exists(schema, name string) bool {
	for _, t := range e.tables {
		if t.Schema == schema && t.Name == name {
			return true
		}
	}
	return false
}
