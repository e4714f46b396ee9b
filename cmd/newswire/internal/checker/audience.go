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
// the session that asked, the answer itself parts what is before from what is
// behind.
func (c *check) bounds(r *Reader) []bounds {
	all := make([]bounds, len(r.Sets))
	for n, s := range r.Sets {
		b := bounds{c.seen[s.Life].before(s.Asked), c.order.behind(s.Answered)}
		if s.Session >= 0 {
			for m, f := range r.Sessions[s.Session].Frames {
				place := c.said[f.Copy]
				if m < s.Before {
					b.least = max(b.least, place+1)
				} else if place >= 0 && f.Attempt == 1 && !f.Replay {
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
func (c *check) audience(p *person) {
	edges := c.bounds(p.Reader)
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
			if !got {
				c.report(Complete, "reader %s: never got the %s of row %d with tags %q (message %d, commit ending at %s)",
					p.Name, m.action, m.key, m.tags, place+1, c.Commits[m.commit].End)
			}
		case got:
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
	for place, m := range c.order.all {
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
			if p.wants(state, m) != p.got[place] {
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

// wants tells whether a message is the reader's when so many changes of its
// sets stand before it.
func (p *person) wants(changes int, m message) bool {
	if changes == 0 {
		return false
	}
	sets := &p.Sets[changes-1]
	touches := func(set []string) bool {
		return slices.Contains(set, "*") || slices.ContainsFunc(m.tags, func(tag string) bool { return slices.Contains(set, tag) }) ||
			slices.ContainsFunc(m.former, func(tag string) bool { return slices.Contains(set, tag) })
	}
	return touches(sets.Follow) && !touches(sets.Mute)
}
