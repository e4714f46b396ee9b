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
	return s, nil
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
	switch p := t.equals; {
	case p != nil:
		w.News = &publication.Equals{Column: p.Column, Value: p.Equals}
	case t.reached != nil:
		w.Why = "a row filter cannot wait for the time in " + t.reached.Column
	}
	return w
}
