package fanout

import (
	"slices"
	"sync"

	"newswire/fanout/journal"

	"github.com/RoaringBitmap/roaring/v2"
)

// FirstGuest is the least number of a guest. Numbers of durable readers, which
// count from 1, never come so far.
const FirstGuest journal.Reader = 1 << 31

// Crowd matches messages to guests: readers without a name, of whom nothing is
// kept once they have gone. Each has a number for as long as it stays, and sets
// that only this process knows. A change of sets takes effect between two
// messages, in the order in which Match is called.
type Crowd struct {
	mu     sync.Mutex // guards the rest
	last   journal.Reader
	guests map[journal.Reader]*guest
	index  *shard      // the only one; it does not run
	at     journal.Seq // the last message that was matched
}

// guest is one's sets now, and as they were for messages that it may still be
// given from the journal.
type guest struct {
	joined bool // it has said its first sets, which stand for what came before, too
	sets   Sets
	past   []guestSets // the older ones, oldest first
}

type guestSets struct {
	sets Sets
	upto journal.Seq // the last message that they were in effect for
}

// maxPast bounds what is remembered of a guest who changes its sets without
// end: for what is older than that, the oldest that is known stand in.
const maxPast = 32

// NewCrowd makes an empty one that goes on behind the messages up to at.
func NewCrowd(at journal.Seq) *Crowd {
	return &Crowd{last: FirstGuest - 1, guests: make(map[journal.Reader]*guest), index: newShard(0, 1), at: at}
}

// Number gives a guest's number, before it joins.
func (c *Crowd) Number() journal.Reader {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if c.last++; c.last < FirstGuest { // around: nobody stays for two billion others
			c.last = FirstGuest
		}
		if c.guests[c.last] == nil {
			c.guests[c.last] = &guest{}
			return c.last
		}
	}
}

// Leave forgets a guest.
func (c *Crowd) Leave(number journal.Reader) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if g := c.guests[number]; g != nil {
		c.reindexLocked(number, g.sets, Sets{})
		delete(c.guests, number)
	}
}

// Edit changes a guest's sets, or says the first ones, for the messages behind the Seq that it gives;
// limit bounds the tags in both together, 0 means none. One malformed tag
// changes nothing: *ErrTag, *ErrTagLimit.
func (c *Crowd) Edit(number journal.Reader, e Edit, limit int) (Edited, error) {
	if err := e.check(); err != nil {
		return Edited{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.guests[number]
	if g == nil {
		return Edited{Reader: number, Seq: c.at}, nil // it has left meanwhile
	}
	after := e.apply(g.sets)
	if n := len(after.Follow) + len(after.Mute); limit > 0 && n > limit && n > len(g.sets.Follow)+len(g.sets.Mute) {
		return Edited{}, &ErrTagLimit{limit}
	}
	changed := !after.equal(g.sets)
	if changed && g.joined {
		g.past = append(g.past, guestSets{g.sets, c.at})
		g.past = slices.Delete(g.past, 0, max(0, len(g.past)-maxPast))
	}
	c.reindexLocked(number, g.sets, after)
	g.sets, g.joined = after, true
	return Edited{Reader: number, Sets: after.clone(), Seq: c.at, Changed: changed}, nil
}

func (c *Crowd) reindexLocked(number journal.Reader, before, after Sets) {
	added, dropped := difference(before.Follow, after.Follow)
	muted, unmuted := difference(before.Mute, after.Mute)
	c.index.add(added, number, (*audience).followers)
	c.index.drop(dropped, number, (*audience).followers)
	c.index.add(muted, number, (*audience).muters)
	c.index.drop(unmuted, number, (*audience).muters)
}

// Match gives the guests who shall have a message. It is called for every
// message once, in Seq order; nil when there are none.
func (c *Crowd) Match(seq journal.Seq, m *journal.Message) *roaring.Bitmap {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = seq
	if len(c.guests) == 0 {
		return nil
	}
	var jn join
	c.index.answer(task{join: &jn, tags: lookups(m.Tags, m.Former)})
	if found := jn.audience(); !found.IsEmpty() {
		return found
	}
	return nil
}

// At gives the last message that was matched: what lies behind it will be.
func (c *Crowd) At() journal.Seq {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

// Wants tells whether a guest shall have a message that was matched, with the
// sets as they stood there.
func (c *Crowd) Wants(number journal.Reader, seq journal.Seq, m *journal.Message) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.guests[number]
	if g == nil {
		return false
	}
	sets := g.sets
	for _, old := range g.past {
		if seq <= old.upto {
			sets = old.sets
			break
		}
	}
	return sets.match(m)
}

// match tells whether who has these sets, under no permit, gets a message.
func (s Sets) match(m *journal.Message) bool {
	names := lookups(m.Tags, m.Former)
	in := func(set []string) bool {
		return slices.ContainsFunc(names, func(name string) bool {
			_, found := slices.BinarySearch(set, name)
			return found
		})
	}
	return in(s.Follow) && !in(s.Mute)
}
