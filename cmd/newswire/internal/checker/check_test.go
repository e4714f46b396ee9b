package checker

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"newswire/fanout/journal"
)

// at is a time in the run.
func at(seconds float64) time.Time {
	return time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC).Add(time.Duration(seconds * float64(time.Second)))
}

func row(key int64, title string, tags ...string) *Row {
	return &Row{Key: key, Tags: tags, Published: true, Data: DigestOf(fmt.Appendf(nil, `{"id":%d,"title":%q}`, key, title))}
}

func hidden(r *Row) *Row {
	h := *r
	h.Published = false
	return &h
}

// story is what the editors did, a commit a second.
func story() (commits []Commit) {
	one, two, three := row(1, "one", "tech"), row(2, "two", "sport"), row(3, "three", "art")
	for _, changes := range [][]Change{
		{{New: one}},
		{{New: two}, {New: hidden(three)}},
		{{Old: one, New: row(1, "one, corrected", "sport")}, {Old: hidden(three), New: three}},
		{{Old: three, New: row(33, "three", "art", "tech")}},
		{{New: row(4, "four", "tech")}, {New: row(5, "five", "sport")}},
		{{Old: two}},
		{{New: row(6, "six", "tech")}},
		{{New: row(7, "seven", "tech", "gossip")}},
	} {
		n := len(commits)
		commits = append(commits, Commit{Behind: journal.LSN(100 * n), End: journal.LSN(100*n + 100), Time: at(float64(n + 1)), Changes: changes})
	}
	return commits
}

// run is a flawless run in the making.
type run struct {
	*History
	order  *order
	copies []*Copy
}

// flawless is a run in which everything was as promised. The engine is killed
// at 4.5 s and lives again from 4.6 s on. "all" follows everything and mutes
// gossip from the 7th second on; "tech" follows its tag, and "away" sport and
// tech: it is not there, is handed everything over, and acknowledges the first
// of it later. What it was handed over of row 2 is withdrawn.
func flawless() *History {
	h := &History{
		Commits:   story(),
		Lives:     []Life{{Start: at(0), End: at(4.5), Killed: true}, {Start: at(4.6), End: at(60)}},
		Positions: []Position{{Slot: 350, Held: 400}, {Slot: 800, Held: 800}},
		Outages:   []Outage{{What: "Kafka was away", Said: "hand-overs wait"}},
		Rest:      Rest{Most: Bounds{Goroutines: 100, Files: 100, Memory: 1000, Retained: 1000}, Goroutines: 50, Files: 50, Memory: 500, Retained: 500},
		Retries:   1,
	}
	r := run{History: h, order: newOrder(h.Commits)}
	for _, m := range r.order.all {
		id := journal.ID{Epoch: 1, LSN: h.Commits[m.commit].End - 10, Ordinal: m.ordinal}
		r.copies = append(r.copies, &Copy{ID: id.String(), Action: m.action, Source: "public.articles", Key: m.key, Tags: m.tags, Data: m.data})
	}
	r.connect("all", "*")
	all := &h.Readers[0]
	all.Sets = append(all.Sets, SetChange{Follow: []string{"*"}, Mute: []string{"gossip"}, Asked: at(7.3), Answered: at(7.4), Life: 1, Session: 1, Before: len(all.Sessions[1].Frames) - 1})
	all.Sessions[1].Frames = all.Sessions[1].Frames[:len(all.Sessions[1].Frames)-1]
	all.Sessions[1].Acks = all.Sessions[1].Acks[:len(all.Sessions[1].Acks)-1]
	r.connect("tech", "tech")
	r.away()
	r.audit()
	return h
}

// connect makes a reader who gets everything on two connections.
func (r run) connect(name, tag string) {
	reader := Reader{
		Name: name, Sets: []SetChange{{Follow: []string{tag}, Asked: at(0.1), Answered: at(0.2), Session: -1}},
		Sessions: []Session{{Life: 0, Began: at(0.3)}, {Life: 1, Began: at(4.7)}},
	}
	p := person{Reader: &reader, Sets: reader.Sets}
	for place, m := range r.order.all {
		if !p.wants(1, m) {
			continue
		}
		came := r.Commits[m.commit].Time.Add(100 * time.Millisecond)
		s := &reader.Sessions[0]
		if came.After(at(4.5)) {
			s = &reader.Sessions[1]
		}
		s.Frames = append(s.Frames, Frame{At: came, Attempt: 1, Copy: r.copies[place]})
		s.Acks = append(s.Acks, Ack{ID: r.copies[place].ID, At: came, Heard: came.Add(50 * time.Millisecond)})
	}
	// The last acknowledgement before the kill is lost, and the message comes again.
	if last := reader.Sessions[0].Frames; len(last) > 0 {
		again := last[len(last)-1]
		again.At, again.Replay = at(4.8), true
		second := &reader.Sessions[1]
		second.Frames = append([]Frame{again}, second.Frames...)
		second.Acks = append([]Ack{{ID: again.ID, At: at(4.8), Heard: at(4.9)}}, second.Acks...)
	}
	r.Readers = append(r.Readers, reader)
}

// away makes the reader who is not there.
func (r run) away() {
	reader := Reader{Name: "away", Sets: []SetChange{{Follow: []string{"sport", "tech"}, Asked: at(0.1), Answered: at(0.2), Session: -1}}}
	p := person{Reader: &reader, Sets: reader.Sets}
	for place, m := range r.order.all {
		if p.wants(1, m) {
			c := r.copies[place]
			r.Offline = append(r.Offline, Record{Key: "away", CeID: c.ID + ":away", ID: c.ID, Reader: "away", Reason: "disconnected",
				Handed: at(20 + float64(place)), Copy: c})
		}
	}
	first := r.copies[0]
	reader.Sessions = []Session{{Life: 1, Began: at(50), Frames: []Frame{{At: at(51), Attempt: 1, Replay: true, Copy: first}},
		Acks: []Ack{{ID: first.ID, At: at(51), Heard: at(51.1)}}}}
	r.Readers = append(r.Readers, reader)
	r.Cancelled = append(r.Cancelled, Record{Key: first.ID + ":away", CeID: first.ID + ":away", Cause: "acked"})
	for _, c := range r.copies {
		if c.Key == 2 && c.Action != "retract" {
			r.Cancelled = append(r.Cancelled, Record{Key: c.ID + ":away", CeID: c.ID + ":away", Cause: "retracted"})
		}
	}
}

// audit makes the engine's own account right.
func (r run) audit() {
	c := check{History: r.History, order: r.order, said: make(map[*Copy]int), copies: make(map[string]*Copy), ids: make(map[int]string)}
	c.readers()
	c.records()
	for n := range c.people {
		c.audience(&c.people[n])
	}
	r.Rest.Audit = &Audit{Messages: len(r.order.all), Pairs: c.pairs, Handed: len(r.Offline), Acked: c.pairs - len(r.Offline), AddsUp: true}
}

func TestFlawlessRunIsFoundFlawless(t *testing.T) {
	if found := flawless().Check(); len(found) > 0 {
		t.Errorf("found %v", found)
	}
}

func TestChangesCallForMessages(t *testing.T) {
	one, moved := row(1, "one", "tech"), row(9, "one", "tech")
	for _, c := range []struct {
		name   string
		change Change
		want   string
	}{
		{"insert", Change{New: one}, "0 publish 1 [tech] []"},
		{"hidden insert", Change{New: hidden(one)}, ""},
		{"no usable tag", Change{New: row(1, "one", "", "*", "a\x01")}, "0 publish 1 [general] []"},
		{"repeated tag", Change{New: row(1, "one", "b", "a", "b")}, "0 publish 1 [b a] []"},
		{"published", Change{Old: hidden(one), New: one}, "0 publish 1 [tech] []"},
		{"nothing readers see", Change{Old: one, New: row(1, "one", "tech", "tech")}, ""},
		{"other data", Change{Old: one, New: row(1, "two", "tech")}, "0 correct 1 [tech] [tech]"},
		{"other tags", Change{Old: one, New: row(1, "one", "art")}, "0 correct 1 [art] [tech]"},
		{"unpublished", Change{Old: one, New: hidden(row(1, "two", "art"))}, "0 retract 1 [tech] []"},
		{"deleted", Change{Old: one}, "0 retract 1 [tech] []"},
		{"hidden, deleted", Change{Old: hidden(one)}, ""},
		{"other key", Change{Old: one, New: moved}, "0 retract 1 [tech] [], 1 publish 9 [tech] []"},
		{"other key, hidden", Change{Old: hidden(one), New: moved}, "1 publish 9 [tech] []"},
	} {
		got := ""
		for n, m := range expected([]Commit{{Changes: []Change{c.change}}}) {
			if n > 0 {
				got += ", "
			}
			got += fmt.Sprintf("%d %s %d %s %s", m.ordinal, m.action, m.key, m.tags, m.former)
		}
		if got != c.want {
			t.Errorf("%s calls for %q, want %q", c.name, got, c.want)
		}
	}
}

// TestChangeMayTakeEffectAnywhereWithinItsBounds: what was committed while a
// change was being made goes either way, but only one way.
func TestChangeMayTakeEffectAnywhereWithinItsBounds(t *testing.T) {
	h := &History{Lives: []Life{{Start: at(0), End: at(60)}}}
	for n := range 6 {
		h.Commits = append(h.Commits, Commit{Behind: journal.LSN(100 * n), End: journal.LSN(100*n + 100), Time: at(float64(n)), Changes: []Change{{New: row(int64(n), "t", "a")}}})
	}
	o := newOrder(h.Commits)
	for _, c := range []struct {
		got  []int // places that came to a reader who unfollows between the 2nd and the 5th
		want int   // violations
	}{
		{[]int{0, 1}, 0}, {[]int{0, 1, 2, 3, 4}, 0}, {[]int{0, 1, 2}, 0},
		{[]int{0}, 1}, {[]int{0, 1, 3}, 1}, {[]int{0, 1, 2, 3, 4, 5}, 1}, {[]int{1, 2, 3}, 1},
	} {
		r := Reader{Name: "u", Sets: []SetChange{
			{Follow: []string{"a"}, Asked: at(-2), Answered: at(-1), Session: -1},
			{Asked: at(1.5), Answered: at(4.5), Session: -1},
		}, Sessions: []Session{{Began: at(0)}}}
		witness := Reader{Name: "w", Sets: []SetChange{{Follow: []string{"a"}, Asked: at(-2), Answered: at(-1), Session: -1}}, Sessions: []Session{{}}}
		for place, m := range o.all {
			id := journal.ID{Epoch: 1, LSN: h.Commits[place].Behind}.String()
			f := Frame{At: at(float64(place) + 0.2), Attempt: 1, Copy: &Copy{ID: id, Action: "publish", Source: "public.articles", Key: m.key, Tags: m.tags, Data: m.data}}
			for _, to := range []*Reader{&r, &witness} {
				if to == &witness || slices.Contains(c.got, place) {
					to.Sessions[0].Frames = append(to.Sessions[0].Frames, f)
					to.Sessions[0].Acks = append(to.Sessions[0].Acks, Ack{ID: id, At: f.At, Heard: f.At})
				}
			}
		}
		h.Readers = []Reader{r, witness}
		if found := h.Check(); len(found) != c.want {
			t.Errorf("who got %v: found %v, want %d violations", c.got, found, c.want)
		}
	}
}

// TestEverythingThatIsMissingIsTold also shows that judging a long run takes no
// time.
func TestEverythingThatIsMissingIsTold(t *testing.T) {
	h := flawless()
	const more = 20_000
	end := h.Commits[len(h.Commits)-1].End
	for n := range journal.LSN(more) {
		h.Commits = append(h.Commits, Commit{Behind: end + n, End: end + n + 1, Time: at(100), Changes: []Change{{New: row(int64(1000+n), "t", "art")}}})
	}
	missing := 0
	for _, v := range h.Check() {
		if v.Invariant == Complete {
			missing++
		}
	}
	if missing != more { // "all" follows them, and never got one
		t.Errorf("%d are told to be missing, want %d", missing, more)
	}
}
