package checker

import (
	"strings"
	"time"
)

// grace is how long before the engine's violent end something must have been
// heard to count as kept: accounts are written in batches.
const grace = 15 * time.Second

// terminal is the second half of I1: what was to come has come to an end.
func (c *check) terminal(p *person) {
	for _, place := range p.wanted {
		id, ok := c.ids[place]
		if p.Left {
			c.leave(p, id)
			continue
		}
		if !ok || p.got[place] == never {
			continue // told already
		}
		if !p.ended(id) {
			c.report(Complete, "reader %s: message %s was neither acknowledged nor handed over", p.Name, id)
		}
	}
}

// leave counts what a reader who left may have left open; id is "" where the
// message came to nobody.
func (c *check) leave(p *person, id string) {
	if _, handed := p.handed[id]; handed {
		return
	}
	c.open++
	if len(p.acks[id]) == 0 {
		c.lost++
	}
}

// kept tells whether the engine has for certain what it heard then: it lived on
// for a while, or was ended in good order.
func (c *check) kept(life int, heard time.Time) bool {
	l := c.Lives[life]
	return !heard.IsZero() && (!l.Killed || l.End.Sub(heard) > grace)
}

// settled gives the first acknowledgement of a message that was heard before a
// time, or on the same session before another, and is kept for certain.
func (c *check) settled(p *person, id string, by time.Time, life, session int, there time.Time) (a sent, ok bool) {
	for _, a := range p.acks[id] {
		if a.Heard.IsZero() || !a.Heard.Before(by) && (a.session != session || !a.Heard.Before(there)) {
			continue
		}
		if a.life == life || c.kept(a.life, a.Heard) {
			return a, true
		}
	}
	return sent{}, false
}

// lifeAt is the life of the engine at a time; -1: none.
func (c *check) lifeAt(at time.Time) int {
	for n, l := range c.Lives {
		if !at.Before(l.Start) && (l.End.IsZero() || !at.After(l.End)) {
			return n
		}
	}
	return -1
}

// repeats is I2 of one reader: what the engine knows to be acknowledged does not
// come again, and is not handed over. What was on its way to another session
// meanwhile may come.
func (c *check) repeats(p *person) {
	for number, s := range p.Sessions {
		for _, f := range s.Frames {
			if a, ok := c.settled(p, f.ID, s.Began, s.Life, number, f.At); ok {
				c.report(Unique, "reader %s, session %d: message %s came again %s after its acknowledgement was heard", p.Name, number+1, f.ID, f.At.Sub(a.Heard))
			}
		}
	}
	for id, r := range p.handed {
		if a, ok := c.settled(p, id, r.Handed, c.lifeAt(r.Handed), -1, r.Handed); ok && p.gone[id].Cause != "acked" { // else it was on its way

			c.report(Unique, "reader %s: message %s was handed over %s after it was acknowledged", p.Name, id, r.Handed.Sub(a.Heard))
		}
	}
	if !c.Faultless {
		return
	}
	for id := range p.handed {
		if len(p.acks[id]) > 0 {
			c.report(Unique, "reader %s: message %s was acknowledged and handed over", p.Name, id)
		}
	}
}

// gone finds a reader's cancellations.
func (c *check) gone(p *person) {
	for _, r := range c.Cancelled {
		if id, ok := strings.CutSuffix(r.CeID, ":"+p.Name); ok && !strings.Contains(id, ":") {
			if first, ok := p.gone[id]; !ok || first.Cause != "acked" {
				p.gone[id] = r
			}
		}
	}
}

// cancels is I2 behind the hand-over: who acknowledges then, and what is
// withdrawn then, is cancelled.
func (c *check) cancels(p *person) {
	withdrawn := c.withdrawals()
	for id, r := range p.handed {
		place := c.said[r.Copy]
		gone, is := p.gone[id]
		for _, a := range p.acks[id] {
			if !is && a.At.After(r.Handed) && c.kept(a.life, a.Heard) && c.held(place, a.At) {
				c.report(Unique, "reader %s: message %s was acknowledged %s after the hand-over, and nobody was told", p.Name, id, a.At.Sub(r.Handed))
				break
			}
		}
		if last, ok := withdrawn[r.Copy.Key]; ok && last > place && r.Action != "retract" && !is && len(p.acks[id]) == 0 && c.held(place, c.time(last)) {
			c.report(Unique, "reader %s: message %s was handed over and withdrawn, and nobody was told", p.Name, id)
		}
		if is && gone.Cause == "acked" && len(p.acks[id]) == 0 {
			c.report(Unique, "reader %s: message %s was cancelled as acknowledged, which it was not", p.Name, id)
		}
		if last, ok := withdrawn[r.Copy.Key]; is && gone.Cause == "retracted" && (!ok || last < place) {
			c.report(Unique, "reader %s: message %s was cancelled as withdrawn, which it was not", p.Name, id)
		}
	}
}

// expiring is how much earlier than the retention says a message may be gone when
// something of it is worked on.
const expiring = 5 * time.Second

// held tells that the journal still has a message for certain at a time.
func (c *check) held(place int, at time.Time) bool {
	return c.Retention == 0 || at.Sub(c.time(place)) < c.Retention-expiring
}

// time is when a message was committed.
func (c *check) time(place int) time.Time { return c.Commits[c.order.all[place].commit].Time }

// withdrawals gives the last place at which each row was withdrawn.
func (c *check) withdrawals() map[int64]int {
	if c.withdrawn == nil {
		c.withdrawn = make(map[int64]int)
		for place, m := range c.order.all {
			if m.action == "retract" {
				c.withdrawn[m.key] = place
			}
		}
	}
	return c.withdrawn
}

// cancelled judges the cancellations by themselves.
func (c *check) cancelled() {
	for n, r := range c.Cancelled {
		if r.Key != r.CeID || r.Cause != "acked" && r.Cause != "retracted" {
			c.report(True, "record %d of news-offline-cancelled: key %q, ce_id %q, cause %q", n+1, r.Key, r.CeID, r.Cause)
			continue
		}
		id, name, _ := strings.Cut(r.CeID, ":")
		index, known := c.names[name]
		if !known {
			c.report(True, "record %d of news-offline-cancelled: reader %q is nobody", n+1, name)
			continue
		}
		if _, ok := c.people[index].handed[id]; !ok && c.Faultless {
			c.report(Unique, "record %d of news-offline-cancelled: %s was never handed over", n+1, r.CeID)
		}
	}
}
