package checker

import (
	"slices"
	"testing"
	"time"

	"newswire/fanout/journal"
)

// first is the first connection of the reader who follows everything.
func (h *History) first() *Session { return &h.Readers[0].Sessions[0] }

// second is its second connection, behind the kill.
func (h *History) second() *Session { return &h.Readers[0].Sessions[1] }

// drop takes a message from a session, as if it had never been sent.
func (s *Session) drop(n int) Frame {
	f := s.Frames[n]
	s.Frames = slices.Delete(s.Frames, n, n+1)
	s.Acks = slices.DeleteFunc(s.Acks, func(a Ack) bool { return a.ID == f.ID })
	return f
}

// edit changes what a frame says, for this frame alone.
func (s *Session) edit(n int, change func(c *Copy)) {
	c := *s.Frames[n].Copy
	c.Tags = slices.Clone(c.Tags)
	change(&c)
	s.Frames[n].Copy = &c
}

// move gives an id another ordinal, commit or epoch.
func move(text string, change func(id *journal.ID)) string {
	id, err := journal.ParseID(text)
	if err != nil {
		panic(err)
	}
	change(&id)
	return id.String()
}

// damages are what Check must notice, each with the invariant that tells it.
// Places of messages in the flawless run: 0 publish 1, 1 publish 2, 2 correct 1,
// 3 publish 3, 4 retract 3, 5 publish 33, 6 publish 4 and 7 publish 5 (before
// the kill: 0 to 5), 8 retract 2, 9 publish 6, 10 publish 7.
var damages = []struct {
	name   string
	want   Invariant
	damage func(*History)
}{
	{"a message dropped", Complete, func(h *History) { h.first().drop(3) }},
	{"the last message dropped", Complete, func(h *History) { h.second().drop(len(h.second().Frames) - 1) }},
	{"one of two messages of a commit dropped", Complete, func(h *History) { h.second().drop(2) }},
	{"a correction dropped", Complete, func(h *History) { h.first().drop(2) }},
	{"a retraction dropped", Complete, func(h *History) { h.first().drop(4) }},
	{"a message dropped for everybody", Complete, func(h *History) {
		h.first().drop(1)
		h.Offline = slices.DeleteFunc(h.Offline, func(r Record) bool { return r.Copy.Key == 2 && r.Action == "publish" })
	}},
	{"a hand-over dropped", Complete, func(h *History) { h.Offline = slices.Delete(h.Offline, 1, 2) }},
	{"an acknowledgement lost", Complete, func(h *History) { h.second().Acks = h.second().Acks[1:]; h.first().Acks = h.first().Acks[:5] }},
	{"all acknowledgements of a reader lost", Complete, func(h *History) {
		for n := range h.Readers[1].Sessions {
			h.Readers[1].Sessions[n].Acks = nil
		}
	}},
	{"an unfollow that took effect twice", Complete, func(h *History) { // what it missed lies before the change
		h.second().drop(3)
	}},

	{"a message doubled", Unique, func(h *History) { h.first().Frames = slices.Insert(h.first().Frames, 3, h.first().Frames[3]) }},
	{"a message doubled later", Unique, func(h *History) { h.first().Frames = append(h.first().Frames, h.first().Frames[3]) }},
	{"a change under two ids", Unique, func(h *History) {
		f := h.second().Frames[0]
		f.Copy = &Copy{ID: move(f.ID, func(id *journal.ID) { id.LSN++ }), Action: f.Action, Source: f.Source, Key: f.Key, Tags: f.Tags, Data: f.Data}
		h.second().Frames[0] = f
	}},
	{"a change under a second epoch", Unique, func(h *History) {
		h.second().edit(0, func(c *Copy) { c.ID = move(c.ID, func(id *journal.ID) { id.Epoch++ }) })
	}},
	{"what was acknowledged comes again", Unique, func(h *History) {
		f := h.first().Frames[5]
		f.At, f.Attempt = at(30), 2
		h.second().Frames = append(h.second().Frames, f)
	}},
	{"what was acknowledged comes again after a kill", Unique, func(h *History) {
		h.Lives[0].End, h.Lives[1].Start = at(24.5), at(24.6)
		f := h.first().Frames[0]
		f.Replay = true
		h.second().Began = at(24.7)
		h.second().Frames = slices.Insert(h.second().Frames, 0, f)
	}},
	{"what was acknowledged is handed over", Unique, func(h *History) {
		f := h.second().Frames[2]
		h.Offline = append(h.Offline, Record{Key: "all", CeID: f.ID + ":all", ID: f.ID, Reader: "all", Handed: at(30), Copy: f.Copy})
		h.Rest.Audit.Handed++
		h.Rest.Audit.Acked--
	}},
	{"one attempt too many", Unique, func(h *History) { h.second().Frames[1].Attempt = 3 }},
	{"attempt 0", Unique, func(h *History) { h.second().Frames[1].Attempt = 0 }},
	{"a late acknowledgement that nobody is told of", Unique, func(h *History) { h.Cancelled = h.Cancelled[1:] }},
	{"a withdrawal that nobody is told of", Unique, func(h *History) { h.Cancelled = h.Cancelled[:1] }},
	{"a cancellation as acknowledged, which it was not", Unique, func(h *History) { h.Cancelled[1].Cause = "acked" }},
	{"a cancellation as withdrawn, which it was not", Unique, func(h *History) {
		c := h.Cancelled[1]
		c.CeID = h.Offline[len(h.Offline)-1].CeID
		c.Key = c.CeID
		h.Cancelled = append(h.Cancelled, c)
	}},

	{"two messages swapped", Ordered, func(h *History) {
		f := h.first().Frames
		f[3], f[4] = f[4], f[3]
	}},
	{"two messages of one commit swapped", Ordered, func(h *History) {
		f := h.second().Frames
		f[1], f[2] = f[2], f[1]
	}},
	{"a replay behind what is live", Ordered, func(h *History) { f := h.second().Frames; f[0], f[1] = f[1], f[0] }},

	{"confirmed too early", Behind, func(h *History) { h.Positions[0].Slot = 401 }},

	{"a body nulled", True, func(h *History) {
		h.first().edit(3, func(c *Copy) { c.Data = DigestOf([]byte(`{"id":3,"title":null}`)) })
	}},
	{"a body missing", True, func(h *History) { h.first().edit(3, func(c *Copy) { c.Data = "" }) }},
	{"the body of before the correction", True, func(h *History) { h.first().edit(2, func(c *Copy) { c.Data = h.first().Frames[0].Data }) }},
	{"a body nulled in Kafka", True, func(h *History) {
		c := *h.Offline[0].Copy
		c.Data = DigestOf([]byte(`{}`))
		h.Offline[0].Copy = &c
	}},
	{"tags lost", True, func(h *History) { h.first().edit(3, func(c *Copy) { c.Tags = nil }) }},
	{"another action", True, func(h *History) { h.first().edit(2, func(c *Copy) { c.Action = "publish" }) }},
	{"another key", True, func(h *History) { h.first().edit(3, func(c *Copy) { c.Key = 4 }) }},
	{"a row that was rolled back", True, func(h *History) {
		h.first().edit(3, func(c *Copy) { c.ID = move(c.ID, func(id *journal.ID) { id.Ordinal = 7 }) })
	}},
	{"a commit that there was not", True, func(h *History) {
		h.second().edit(0, func(c *Copy) { c.ID = move(c.ID, func(id *journal.ID) { id.LSN = 5000 }) })
	}},
	{"an id that is none", True, func(h *History) { h.first().edit(3, func(c *Copy) { c.ID = "x" }) }},
	{"given to a reader who must not have it", True, func(h *History) {
		s := &h.Readers[1].Sessions[0]
		s.Frames = slices.Insert(s.Frames, 1, h.first().Frames[1])
	}},
	{"given to who has muted it", True, func(h *History) {
		muted := h.Readers[1].Sessions[1].Frames
		h.second().Frames = append(h.second().Frames, muted[len(muted)-1])
	}},
	{"given to who has just muted it, and nobody else", True, func(h *History) {
		muted := h.Readers[1].Sessions[1].Frames
		f := muted[len(muted)-1]
		f.Replay = true
		h.Readers[0].Sets[1].Answered = at(7.5)
		h.second().Frames = append(h.second().Frames, f)
	}},
	{"handed over for a reader who must not have it", True, func(h *History) {
		c := h.first().Frames[3].Copy
		h.Offline = append(h.Offline, Record{Key: "away", CeID: c.ID + ":away", ID: c.ID, Reader: "away", Handed: at(30), Copy: c})
	}},
	{"given to a reader whose token does not cover it", True, func(h *History) { h.Readers[0].Claim = []string{"nothing of it"} }},
	{"given to a reader who had left", True, func(h *History) {
		r := &h.Readers[0]
		r.Left = true
		left := r.Sets[0].Answered
		r.Sets = []SetChange{r.Sets[0], {Asked: left, Answered: left, Session: -1}}
	}},
	{"handed over for nobody", True, func(h *History) {
		c := h.first().Frames[3].Copy
		h.Offline = append(h.Offline, Record{Key: "x", CeID: c.ID + ":x", ID: c.ID, Reader: "x", Copy: c})
	}},
	{"handed over under another key", True, func(h *History) { h.Offline[0].Key = "all" }},
	{"cancelled for nobody", True, func(h *History) {
		h.Cancelled = append(h.Cancelled, Record{Key: "a:x", CeID: "a:x", Cause: "acked"})
	}},

	{"goroutines left over", Bounded, func(h *History) { h.Rest.Goroutines = 101 }},
	{"files left open", Bounded, func(h *History) { h.Rest.Files = 101 }},
	{"memory kept", Bounded, func(h *History) { h.Rest.Memory = 1001 }},
	{"the server's log kept", Bounded, func(h *History) { h.Rest.Retained = 1001 }},
	{"pairs that never end", Live, func(h *History) { h.Rest.Pairs = 1 }},
	{"hand-overs that never leave", Live, func(h *History) { h.Rest.Backlog = 1 }},
	{"a fault that is not told", Loud, func(h *History) { h.Outages[0].Said = "" }},
	{"a fault that is told and is none", Loud, func(h *History) { h.Rest.Complaints = "Kafka is away" }},

	{"an audit that misses a message", Audited, func(h *History) { h.Rest.Audit.Messages-- }},
	{"an audit that misses a pair", Audited, func(h *History) { h.Rest.Audit.Pairs -= 20; h.Rest.Audit.Acked -= 20 }},
	{"an audit that takes what was handed over for acknowledged", Audited, func(h *History) { h.Rest.Audit.Handed -= 2; h.Rest.Audit.Acked += 2 }},
	{"an audit that forgets who has not left", Audited, func(h *History) { h.Rest.Audit.Forgotten += 20; h.Rest.Audit.Acked -= 20 }},
	{"an audit that does not add up", Audited, func(h *History) { h.Rest.Audit.Acked-- }},
	{"an audit that says so", Audited, func(h *History) { h.Rest.Audit.AddsUp = false }},
}

// TestCheckNoticesEveryDamage damages a flawless run in one place at a time.
func TestCheckNoticesEveryDamage(t *testing.T) {
	for _, d := range damages {
		t.Run(d.name, func(t *testing.T) {
			h := flawless()
			d.damage(h)
			found := h.Check()
			if !slices.ContainsFunc(found, func(v Violation) bool { return v.Invariant == d.want }) {
				t.Errorf("found %v, want a violation of %s", found, d.want)
			}
		})
	}
}

// TestCheckAllowsWhatAFaultMayCause: repeats that the contract permits are no
// violation, until the run is said to have been without faults.
func TestCheckAllowsWhatAFaultMayCause(t *testing.T) {
	h := flawless()
	h.Offline = append(h.Offline, h.Offline[0])
	retry := h.second().Frames[1]
	retry.Attempt, retry.At = 2, retry.At.Add(10*time.Millisecond) // its acknowledgement was on the way
	h.second().Frames = append(h.second().Frames, retry)
	if found := h.Check(); len(found) > 0 {
		t.Error(found)
	}
	h.Faultless = true
	if found := h.Check(); len(found) == 0 {
		t.Error("a run without faults has repeats, and nothing is found")
	}
}

// TestCheckAllowsWhatReadersWhoLeaveLeaveOpen, and that what has left the journal
// is not cancelled any more.
func TestCheckAllowsWhatReadersWhoLeaveLeaveOpen(t *testing.T) {
	h := flawless()
	n := slices.IndexFunc(h.Offline, func(r Record) bool {
		return !slices.ContainsFunc(h.Cancelled, func(c Record) bool { return c.CeID == r.CeID })
	})
	for r := range h.Readers {
		h.Readers[r].Left = h.Readers[r].Name == h.Offline[n].Reader
	}
	h.Offline = slices.Delete(h.Offline, n, n+1)
	h.Rest.Audit.Handed--
	h.Rest.Audit.Forgotten++
	if found := h.Check(); len(found) > 0 {
		t.Error(found)
	}
	h = flawless()
	h.Cancelled, h.Retention = h.Cancelled[2:], time.Second
	if found := h.Check(); len(found) > 0 {
		t.Error(found)
	}
}
