package setup

import (
	"encoding/json"
	"slices"
	"strings"

	"newswire/cdc/publication"
)

// record is what setup has given a role that it did not make, kept in the
// comment on the publication: by it teardown takes back just that. It names
// things, no statements: whoever can change the comment must not be able to
// have teardown run theirs.
type record struct {
	Role       string        `json:"role"`
	Attributes []string      `json:"attributes,omitempty"` // LOGIN, REPLICATION
	Schemas    []string      `json:"schemas,omitempty"`    // USAGE on them
	Tables     []recordTable `json:"tables,omitempty"`     // SELECT on them

	Slots map[string]string `json:"slots,omitempty"` // where each was made: publication.NoteSlot; no matter of the role's
}

type recordTable struct {
	Schema  string   `json:"schema"`
	Name    string   `json:"name"`
	Columns []string `json:"columns,omitempty"` // none: the whole table
}

// recordOf reads the comment on a publication; one that was written by hand,
// or for another role, tells nothing.
func recordOf(p *publication.State, role string) (r record) {
	if p != nil && p.Marked {
		text := strings.TrimPrefix(p.Comment, Mark)
		if json.Unmarshal([]byte(text), &r) != nil || r.Role != role {
			r = record{Slots: r.Slots}
		}
	}
	r.Role = role
	return r
}

func (r record) empty() bool { return len(r.Attributes)+len(r.Schemas)+len(r.Tables)+len(r.Slots) == 0 }

// comment is the mark, with the record where there is one.
func (r record) comment() string {
	if r.empty() {
		return Mark
	}
	text, err := json.Marshal(r)
	if err != nil { // strings always encode
		panic(err)
	}
	return Mark + " " + string(text)
}

// with adds what a plan is about to give the role.
func (r record) with(s state, o Options) record {
	for _, a := range s.role.missing() {
		r.Attributes = union(r.Attributes, a)
	}
	if o.Minimal {
		return r
	}
	r.Tables = slices.Clone(r.Tables)
	for _, t := range slices.Concat(s.tables, s.reads) {
		if !t.schemaOpen {
			r.Schemas = union(r.Schemas, t.Schema)
		}
		if !t.lacksRights() {
			continue
		}
		i := slices.IndexFunc(r.Tables, func(x recordTable) bool {
			return x.Schema == t.Schema && x.Name == t.Name && (len(x.Columns) == 0) == (len(t.hidden) == 0)
		})
		if i < 0 {
			i, r.Tables = len(r.Tables), append(r.Tables, recordTable{Schema: t.Schema, Name: t.Name})
		}
		for _, c := range t.hidden {
			r.Tables[i].Columns = union(r.Tables[i].Columns, c)
		}
	}
	return r
}

func union(list []string, name string) []string {
	if slices.Contains(list, name) {
		return list
	}
	return append(slices.Clone(list), name)
}

// only forgets what is not needed any more, and so was taken back.
func (r record) only(n needs) record {
	kept := r
	kept.Schemas, kept.Tables = nil, nil
	for _, schema := range r.Schemas {
		if n.schema(schema) {
			kept.Schemas = append(kept.Schemas, schema)
		}
	}
	for _, t := range r.Tables {
		whole := len(t.Columns) == 0
		t.Columns = slices.DeleteFunc(slices.Clone(t.Columns), func(c string) bool { return !n.column(t.Schema, t.Name, c) })
		if whole && n.table(t.Schema, t.Name) || len(t.Columns) > 0 {
			kept.Tables = append(kept.Tables, t)
		}
	}
	return kept
}

// recordStep writes the record before what it tells of is given, and behind what
// is taken back: what teardown then does not find it passes over.
func recordStep(cfg Config, s state, o Options) []Step {
	if !s.role.exists || s.role.marked || s.publication != nil && !s.publication.Marked {
		return nil // a role of setup's own goes with all it has; a comment of somebody else's is left alone
	}
	before := recordOf(s.publication, cfg.Role)
	after := before.only(s.needs(o)).with(s, o)
	if after.comment() == before.comment() {
		return nil
	}
	return []Step{{
		Comment: "The role was there before: what it is given now is noted, so that teardown takes back that and no more.",
		SQL:     "COMMENT ON PUBLICATION " + quote(cfg.Publication) + " IS " + literal(after.comment()),
		Undo:    "COMMENT ON PUBLICATION " + quote(cfg.Publication) + " IS " + literal(before.comment()),
		Needed:  true,
	}}
}

// unnoted tells, as a comment, what of the plan teardown will not know: the
// comment on a publication that setup did not make is not its own to write.
func (s state) unnoted(cfg Config, o Options) []Step {
	if s.publication == nil || s.publication.Marked {
		return nil
	}
	var made []string
	if !s.slot.exists && o.Journal == "" {
		made = append(made, "slot "+cfg.Slot)
	}
	if given := (record{}).with(s, o); s.role.exists && !s.role.marked && !given.empty() {
		made = append(made, "what role "+quote(cfg.Role)+" is given")
	}
	if len(made) == 0 {
		return nil
	}
	return []Step{{Comment: "Publication " + cfg.Publication + " was there before, so setup leaves its comment alone and notes nowhere that it made " +
		strings.Join(made, " and ") + ".\nTeardown names that and prints the SQL, but does not run it; this plan's undo lines are just what takes it back: keep them."}}
}

// leftAttributes names those that nothing shows to be setup's.
func (r record) leftAttributes(role roleState) []Step {
	if !role.replication || role.marked || slices.Contains(r.Attributes, "REPLICATION") {
		return nil
	}
	return []Step{{
		Comment: "Nothing shows that setup gave the role REPLICATION, so it is left.",
		SQL:     "ALTER ROLE " + quote(r.Role) + " NOREPLICATION",
	}}
}

// attributes takes back those that the role still has.
func (r record) attributes(role roleState) []Step {
	var off []string
	for _, a := range r.Attributes {
		if a == "LOGIN" && role.login || a == "REPLICATION" && role.replication {
			off = append(off, "NO"+a)
		}
	}
	if len(off) == 0 {
		return nil
	}
	return []Step{{
		Comment: "The role was there before setup, and was given this by it.",
		SQL:     "ALTER ROLE " + quote(r.Role) + " " + strings.Join(off, " "), Needed: true,
	}}
}
