package checker

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"newswire/fanout/journal"
)

// defaultTag is that of a row without a usable one.
const defaultTag = "general"

// message is one that the commits call for.
type message struct {
	commit  int // in whose place
	ordinal uint32
	action  string
	key     int64
	tags    []string // that it says
	former  []string // whose followers get it too
	data    Digest
}

// expected gives the messages that the commits call for, in order.
func expected(commits []Commit) (all []message) {
	for n, c := range commits {
		ordinal := uint32(0)
		for _, change := range c.Changes {
			all = append(all, change.messages(n, &ordinal)...)
		}
	}
	return all
}

// messages gives those of one change, which takes one ordinal, or two where the
// key changes: then the row is withdrawn under the old one and published under
// the new one.
func (c Change) messages(commit int, ordinal *uint32) (all []message) {
	take := func() uint32 { *ordinal++; return *ordinal - 1 }
	if c.Old != nil && c.New != nil && c.Old.Key != c.New.Key {
		return append(Change{Old: c.Old}.messages(commit, ordinal), Change{New: c.New}.messages(commit, ordinal)...)
	}
	was, is := c.Old != nil && c.Old.Published, c.New != nil && c.New.Published
	m := message{commit: commit, ordinal: take()}
	if is {
		m.key, m.tags, m.data = c.New.Key, usable(c.New.Tags), c.New.Data
	}
	switch {
	case !was && !is:
		return nil
	case !is:
		m.action, m.key, m.tags = "retract", c.Old.Key, usable(c.Old.Tags)
		m.data = DigestOf(fmt.Appendf(nil, `{"id":%d}`, m.key))
	case !was:
		m.action = "publish"
	default:
		m.action, m.former = "correct", usable(c.Old.Tags)
		if slices.Equal(m.former, m.tags) && c.Old.Data == c.New.Data {
			return nil
		}
	}
	return []message{m}
}

// usable gives the tags of a row that count, as messages tell them.
func usable(stored []string) (tags []string) {
	for _, tag := range stored {
		if tag == "" || tag == "*" || len(tag) > 128 || strings.ContainsFunc(tag, unicode.IsControl) || slices.Contains(tags, tag) {
			continue
		}
		tags = append(tags, tag)
	}
	if len(tags) == 0 {
		return []string{defaultTag}
	}
	return tags
}

// order finds messages by their ids.
type order struct {
	commits []Commit
	all     []message
	first   []int // in all, of each commit's
}

func newOrder(commits []Commit) *order {
	o := &order{commits: commits, all: expected(commits), first: make([]int, len(commits)+1)}
	n := 0
	for c := range o.first {
		for n < len(o.all) && o.all[n].commit < c {
			n++
		}
		o.first[c] = n
	}
	return o
}

// find gives the place of the message that an id stands for.
func (o *order) find(id journal.ID) (place int, ok bool) {
	c, _ := slices.BinarySearchFunc(o.commits, id.LSN, func(c Commit, at journal.LSN) int {
		if c.End <= at {
			return -1
		}
		return 1
	})
	if c == len(o.commits) || id.LSN < o.commits[c].Behind {
		return 0, false
	}
	for place = o.first[c]; place < o.first[c+1]; place++ {
		if o.all[place].ordinal == id.Ordinal {
			return place, true
		}
	}
	return 0, false
}

// behind gives the first message whose commit began to be written after a time.
func (o *order) behind(at time.Time) int {
	c := slices.IndexFunc(o.commits, func(c Commit) bool { return c.Time.After(at) })
	if c < 0 {
		return len(o.all)
	}
	return o.first[c]
}
