package cdc

import (
	"slices"

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
		st := setup.Table{Schema: t.name.schema, Name: t.name.table}
		if len(t.cfg.Data) > 0 { // none means all
			for _, m := range t.mapped() {
				if !slices.Contains(st.Columns, m.column) {
					st.Columns = append(st.Columns, m.column)
				}
			}
		}
		s.Tables = append(s.Tables, st)
	}
	return s, nil
}
