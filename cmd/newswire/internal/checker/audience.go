package checker

import (
	"slices"
	"sort"
	"time"
)

// sighting tells what was seen of the order in one life, by anybody.
type sighting struct {
	at    []time.Time // once sorted, ascending
	place []int       // once sorted, the greatest place that was seen by then
}

func (s *sighting) note(at time.Time, place int) {
	s.at, s.place = append(s.at, at), append(s.place, place)
}

func (s *sighting) Len() int           { return len(s.at) }
func (s *sighting) Less(a, b int) bool { return s.at[a].Before(s.at[b]) }
func (s *sighting) Swap(a, b int) {
	s.at[a], s.at[b] = s.at[b], s.at[a]
	s.place[a], s.place[b] = s.place[b], s.place[a]
}

func (s *sighting) sort() {
	sort.Sort(s)
	for n := 1; n < len(s.place); n++ {
		s.place[n] = max(s.place[n], s.place[n-1])
	}
}

// before gives how many messages had their place in the order for certain
// before a time: those up to the last that anybody had got.
func (s *sighting) before(at time.Time) int {
	n := sort.Search(len(s.at), func(n int) bool { return !s.at[n].Before(at) })
	if n == 0 {
		return 0
	}
	return s.place[n-1] + 1
}

// bounds of the place at which each change of a reader took effect: at least
// so many messages stand before it, and at most so many.
type bounds struct{ least, most int }

// bounds finds them. A change stands behind what anybody in the same life had
// got when it was asked for, and before what was committed after its answer. On
// the session that asked, all that is before it comes before the answer.
func (c *check) bounds(p *person) []bounds {
	all := make([]bounds, len(p.Sets))
	for n, s := range p.Sets {
		b := bounds{c.seen[s.Life].before(s.Asked), c.order.behind(s.Answered)}
		if s.Session >= 0 {
			for m, f := range p.Sessions[s.Session].Frames {
				if place := c.said[f.Copy]; m >= s.Before && place >= 0 && f.Attempt == 1 && !f.Replay {
					b.most = min(b.most, place)
				}
			}
		}
		all[n] = b
	}
	for n := range all { // they took effect one after the other
		if n > 0 {
			all[n].least = max(all[n].least, all[n-1].least)
		}
		if back := len(all) - 1 - n; back < len(all)-1 {
			all[back].most = min(all[back].most, all[back+1].most)
		}
	}
	return all
}

// audience is I1 and I5 of who gets what: there is one place for each change of
// a reader's sets, within its bounds, such that the reader got exactly what the
// sets call for. Where there is none, the places that fit best are taken, and
// what does not fit them is told.
//
// What came just before a violent end may not have been on disk. It then gets its
// place anew, behind changes that were asked for meanwhile; so it may have come
// to who does not want it any more, and is owed nothing.
func (c *check) audience(p *person) {
	p.Sets = effective(p.Sets)
	edges := c.bounds(p)
	for n, e := range edges {
		if e.least > e.most {
			c.report(Complete, "reader %s: the %d. change of its sets took effect behind message %d and before message %d", p.Name, n+1, e.least, e.most+1)
			return
		}
	}
	for place, state := range c.fit(p, edges) {
		m, got := c.order.all[place], p.got[place]
		switch wants := p.wants(state, m); {
		case wants:
			c.pairs++
			p.wanted = append(p.wanted, place)
			if got == unsure {
				c.unsure++
			}
			if got == never && !p.Left {
				c.report(Complete, "reader %s: never got the %s of row %d with tags %q (message %d, commit ending at %s)",
					p.Name, m.action, m.key, m.tags, place+1, c.Commits[m.commit].End)
			}
		case got == unsure && p.once(state, m):
			c.unsure++
		case got != never:
			c.report(True, "reader %s: got the %s of row %d with tags %q, which is not the reader's (message %d)", p.Name, m.action, m.key, m.tags, place+1)
		}
	}
}

// fit gives for each message how many changes of the reader's sets stand before
// it, such that the fewest messages went wrong.
func (c *check) fit(p *person, edges []bounds) []int {
	type step struct {
		low  int   // the least number of changes before it
		from []int // for each number from low on: that of the message before
	}
	steps := make([]step, len(c.order.all))
	low, cost := 0, []int{0} // of the message before, by number of changes from low on
	for place := range c.order.all {
		least := sort.Search(len(edges), func(n int) bool { return edges[n].most > place })
		most := sort.Search(len(edges), func(n int) bool { return edges[n].least > place })
		next, from := make([]int, most-least+1), make([]int, most-least+1)
		best := -1
		for state := low; state <= most; state++ {
			if at := state - low; at < len(cost) && (best < 0 || cost[at] <= cost[best-low]) {
				best = state
			}
			if state < least {
				continue
			}
			from[state-least], next[state-least] = best, cost[best-low]
			if !c.fits(p, state, place) {
				next[state-least]++
			}
		}
		steps[place], low, cost = step{least, from}, least, next
	}
	states := make([]int, len(steps))
	state := low + slices.Index(cost, slices.Min(cost))
	for place := len(steps) - 1; place >= 0; place-- {
		states[place] = state
		state = steps[place].from[state-steps[place].low]
	}
	return states
}

// effective leaves out changes that change nothing: they have no place.
func effective(all []SetChange) (some []SetChange) {
	same := func(a, b []string) bool {
		a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
		return slices.Equal(a, b)
	}
	for _, s := range all {
		if n := len(some); n == 0 || !same(s.Follow, some[n-1].Follow) || !same(s.Mute, some[n-1].Mute) {
			some = append(some, s)
		}
	}
	return some
}

// fits tells whether what came fits the sets behind so many changes.
func (c *check) fits(p *person, changes, place int) bool {
	m, got := c.order.all[place], p.got[place]
	wants := p.wants(changes, m)
	if got == unsure {
		return wants && p.ended(c.ids[place]) || !wants && p.once(changes, m)
	}
	return wants == (got == sure)
}

// ended tells that a message was acknowledged or handed over.
func (p *person) ended(id string) bool {
	_, handed := p.handed[id]
	return handed || len(p.acks[id]) > 0
}

// once tells whether a message was the reader's at some time before.
func (p *person) once(changes int, m message) bool {
	for before := range changes {
		if p.wants(before, m) {
			return true
		}
	}
	return false
}

// wants tells whether a message is the reader's when so many changes of its
// sets stand before it.
func (p *person) wants(changes int, m message) bool {
	if changes == 0 {
		return false
	}
	sets := &p.Sets[changes-1]
	touches := func(set, within []string) bool {
		in := func(tag string) bool {
			return (slices.Contains(set, "*") || slices.Contains(set, tag)) && (within == nil || slices.Contains(within, tag))
		}
		return slices.ContainsFunc(m.tags, in) || slices.ContainsFunc(m.former, in)
	}
	return touches(sets.Follow, p.Claim) && !touches(sets.Mute, nil)
}
