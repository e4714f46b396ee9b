package publication

import "fmt"

// Starved is what tables without a usable replica identity take from others in
// the same publication: what is published of changes is said once for all of
// them, and with updates among it the editors' saves on such a table would fail.
type Starved struct {
	Keyless []string // tables
	Others  []string // those that could have their updates and deletes published
}

// Starves finds out which of the tables do so; nil when none does, also where
// all are alike.
func Starves(shapes []Shape) *Starved {
	var s Starved
	for _, shape := range shapes {
		name := shape.Schema + "." + shape.Name
		if shape.Changes() {
			s.Others = append(s.Others, name)
		} else {
			s.Keyless = append(s.Keyless, name)
		}
	}
	if len(s.Keyless) == 0 || len(s.Others) == 0 {
		return nil
	}
	return &s
}

// Why tells what is wrong.
func (s *Starved) Why() string {
	have, it := "has", "it"
	if len(s.Keyless) > 1 {
		have, it = "have", "them"
	}
	return fmt.Sprintf("%s %s no usable replica identity, and a publication that carries %s can publish no updates and deletes of any table: of %s "+
		"corrections, retractions and articles that an UPDATE publishes would be missed, and an article deleted before its time would go out",
		list(s.Keyless), have, it, list(s.Others))
}

// Remedy tells what helps.
func (s *Starved) Remedy() string {
	if len(s.Keyless) > 1 {
		return "give each a primary key or, by ALTER TABLE … REPLICA IDENTITY, another identity, or take them out of postgres.tables, then run `newswire setup --apply`"
	}
	return "give it a primary key or, by ALTER TABLE … REPLICA IDENTITY, another identity, or take it out of postgres.tables, then run `newswire setup --apply`"
}

// Unpublished are the changes that the publication leaves out, in words.
func (s *State) Unpublished() (changes []string) {
	for _, o := range []struct {
		name string
		on   bool
	}{{"updates", s.Update}, {"deletes", s.Delete}, {"truncates", s.Truncate}} {
		if !o.on {
			changes = append(changes, o.name)
		}
	}
	return changes
}
