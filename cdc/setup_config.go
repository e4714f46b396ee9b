package cdc

import (
	"slices"

	"newswire/cdc/publication"
	"newswire/cdc/setup"
)

// Setup gives what newswire/cdc/setup has to make for this configuration: the
// role is the DSN's user. The error joins the configuration's faults.
func (c Config) Setup() (setup.Config, error) {
	tables, err := c.compile()
	if err != nil {
		return setup.Config{}, err
	}
	dsn, err := parseDSN(c.DSN)
	if err != nil {
		return setup.Config{}, err
	}
	s := setup.Config{Role: dsn.User, Slot: c.Slot, Publication: c.Publication}
	for _, t := range tables {
		s.Tables = append(s.Tables, setup.Table(t.wish()))
	}
	for _, t := range tables {
		if t.query == nil {
			continue
		}
		s.Queries = append(s.Queries, setup.Query{
			Key: t.queryKey(), Schema: t.name.schema, Table: t.name.table,
			Alias: rowAlias, Parameters: t.query.most(), Expression: t.query.expression,
		})
		for _, l := range t.links {
			s.Tables = withLink(s.Tables, l)
		}
	}
	return s, nil
}

// withLink adds what of a link table has to leave the database: of its rows
// only the key, but of every row.
func withLink(tables []setup.Table, l link) []setup.Table {
	for i := range tables {
		t := &tables[i]
		if t.Schema != l.name.schema || t.Name != l.name.table {
			continue
		}
		for _, column := range l.key {
			if len(t.Columns) > 0 && !slices.Contains(t.Columns, column) {
				t.Columns = append(t.Columns, column)
			}
		}
		if t.News != nil {
			t.News, t.Why = nil, "its other rows tie articles to their tags"
		}
		return tables
	}
	return append(tables, setup.Table{Schema: l.name.schema, Name: l.name.table, Columns: slices.Clone(l.key)})
}

// wish is what of the table has to leave the database.
func (t *table) wish() publication.Wish {
	w := publication.Wish{Schema: t.name.schema, Name: t.name.table}
	if len(t.cfg.Data) > 0 { // none means all
		for _, m := range t.mapped() {
			if !slices.Contains(w.Columns, m.column) {
				w.Columns = append(w.Columns, m.column)
			}
		}
	}
	if t.reached != nil {
		w.Waits = t.reached.Column
	}
	switch p := t.equals; {
	case p != nil:
		w.News = &publication.Equals{Column: p.Column, Value: p.Equals}
	case t.reached != nil:
		w.Why = "a row filter cannot wait for the time in " + t.reached.Column
	}
	return w
}
