package checker

import (
	"fmt"
	"time"

	"newswire/fanout/journal"
)

// Check judges a run. It gives every violation that it finds, and changes
// nothing of the history.
func (h *History) Check() []Violation {
	c := &check{History: h, order: newOrder(h.Commits), said: make(map[*Copy]int), copies: make(map[string]*Copy), ids: make(map[int]string)}
	c.readers()
	c.records()
	for n := range c.people {
		c.audience(&c.people[n])
		c.terminal(&c.people[n])
		c.gone(&c.people[n])
		c.repeats(&c.people[n])
		c.cancels(&c.people[n])
	}
	c.cancelled()
	c.positions()
	c.rest()
	c.audit()
	return c.found
}

// check is one judgement in progress.
type check struct {
	*History
	order  *order
	found  []Violation
	said   map[*Copy]int    // places of messages that were looked at; -1 for one that nobody committed
	copies map[string]*Copy // by id, the first that came
	ids    map[int]string   // by place
	seen   []sighting       // by life
	people []person         // by index in Readers
	names  map[string]int   // of Readers
	pairs  int              // of message and reader, who was to get it
	unsure int              // of pairs, or not: nothing from outside tells
	open   int              // of pairs, of readers who left: not handed over, so perhaps forgotten
	lost   int              // of open: not acknowledged either, so forgotten

	withdrawn map[int64]int // of each row, the last place; nil before withdrawals
}

// person is what became of the messages of one reader.
type person struct {
	*Reader
	Sets   []SetChange       // those that changed something
	got    map[int]evidence  // by place: what came, or was handed over
	acks   map[string][]sent // by id
	handed map[string]Record // by id, the first record
	gone   map[string]Record // by id, cancellations
	wanted []int             // places, once audience has found them
}

// evidence that a message is a reader's.
type evidence uint8

const (
	never  evidence = iota // it did not come
	unsure                 // it came just before a violent end
	sure
)

// unsynced is how long before the engine's violent end a message may have come
// that was not on disk.
const unsynced = 2 * time.Second

// sent is an acknowledgement, and where it was sent.
type sent struct {
	Ack
	life    int
	session int // an index
}

func (c *check) report(i Invariant, format string, args ...any) {
	c.found = append(c.found, Violation{i, fmt.Sprintf(format, args...)})
}

// place judges a message by itself, once for each text, and gives its place in
// the order; -1: nobody committed it.
func (c *check) place(where string, m *Copy) int {
	if place, ok := c.said[m]; ok {
		return place
	}
	place := c.judge(where, m)
	c.said[m] = place
	return place
}

// judge is I5 of one text, and that part of I2 which concerns ids.
func (c *check) judge(where string, m *Copy) int {
	id, err := journal.ParseID(m.ID)
	if err != nil {
		c.report(True, "%s: id %q: %v", where, m.ID, err)
		return -1
	}
	place, ok := c.order.find(id)
	if !ok {
		c.report(True, "%s: message %s (%s of row %d) stands for no change that was committed", where, m.ID, m.Action, m.Key)
		return -1
	}
	want := c.order.all[place]
	if other, ok := c.ids[place]; ok && other != m.ID {
		c.report(Unique, "%s: the %s of row %d has the ids %s and %s", where, want.action, want.key, other, m.ID)
	}
	c.ids[place] = m.ID
	if m.Action != want.action || m.Key != want.key || m.Source != "public.articles" || !equal(m.Tags, want.tags) {
		c.report(True, "%s: message %s says %s of %s %d with tags %q; committed was %s of row %d with tags %q",
			where, m.ID, m.Action, m.Source, m.Key, m.Tags, want.action, want.key, want.tags)
	} else if m.Data != want.data && !m.Cut {
		c.report(True, "%s: message %s (%s of row %d) does not say what was committed", where, m.ID, m.Action, m.Key)
	}
	return place
}

// readers goes through what came to the readers: I3, and the rest of I2 on one
// session.
func (c *check) readers() {
	c.names = make(map[string]int)
	c.seen = make([]sighting, len(c.Lives))
	for n := range c.Readers {
		r := &c.Readers[n]
		c.names[r.Name] = n
		c.people = append(c.people, person{
			Reader: r, Sets: r.Sets, got: make(map[int]evidence), acks: make(map[string][]sent), handed: make(map[string]Record), gone: make(map[string]Record),
		})
		p := &c.people[n]
		for s := range r.Sessions {
			c.session(p, s)
		}
	}
	for n := range c.seen {
		c.seen[n].sort()
	}
}

func (c *check) session(p *person, number int) {
	s := &p.Sessions[number]
	where := fmt.Sprintf("reader %s, session %d", p.Name, number+1)
	type attempt struct {
		id string
		n  int
	}
	seen, last := make(map[attempt]bool), -1
	for _, f := range s.Frames {
		place := c.place(where, f.Copy)
		if place < 0 {
			continue
		}
		if l := c.Lives[s.Life]; l.Killed && l.End.Sub(f.At) < unsynced {
			p.got[place] = max(p.got[place], unsure)
		} else {
			p.got[place] = sure
		}
		c.seen[s.Life].note(f.At, place)
		if a := (attempt{f.ID, f.Attempt}); seen[a] {
			c.report(Unique, "%s: message %s came twice as attempt %d", where, f.ID, f.Attempt)
		} else {
			seen[a] = true
		}
		if f.Attempt < 1 || f.Attempt > c.Retries+1 || c.Faultless && (f.Attempt > 1 || f.Replay) {
			c.report(Unique, "%s: message %s came as attempt %d, replay %t", where, f.ID, f.Attempt, f.Replay)
		}
		if f.Attempt > 1 && !f.Replay {
			continue // a retry may come after its successors
		}
		if place < last {
			c.report(Ordered, "%s: message %s, %d. in commit order, came after the %d.", where, f.ID, place+1, last+1)
		}
		last = max(last, place)
	}
	for _, a := range s.Acks {
		p.acks[a.ID] = append(p.acks[a.ID], sent{a, s.Life, number})
	}
}

// records goes through what Kafka was given.
func (c *check) records() {
	for n, r := range c.Offline {
		where := fmt.Sprintf("record %d of news-offline", n+1)
		if r.CeID != r.ID+":"+r.Reader || r.Key != r.Reader || r.Copy == nil || r.Copy.ID != r.ID {
			c.report(True, "%s: key %q and ce_id %q do not fit message %s for %s", where, r.Key, r.CeID, r.ID, r.Reader)
			continue
		}
		index, known := c.names[r.Reader]
		if !known {
			c.report(True, "%s: reader %q is nobody", where, r.Reader)
			continue
		}
		p := &c.people[index]
		place := c.place(where, r.Copy)
		if place < 0 {
			continue
		}
		p.got[place] = sure
		if _, again := p.handed[r.ID]; again && c.Faultless {
			c.report(Unique, "%s: a second %s", where, r.CeID)
		} else if !again {
			p.handed[r.ID] = r
		}
	}
}

// positions is I4.
func (c *check) positions() {
	for n, p := range c.Positions {
		if p.Slot > p.Held {
			c.report(Behind, "look %d: the slot stands at %s, and the journal holds everything up to %s only", n+1, p.Slot, p.Held)
		}
	}
}

func equal(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for n := range a {
		if a[n] != b[n] {
			return false
		}
	}
	return true
}
