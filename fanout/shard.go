package fanout

import (
	"strings"
	"sync"
	"sync/atomic"

	"newswire/fanout/journal"

	"github.com/RoaringBitmap/roaring/v2"
)

// shard owns the tags that hash to it. Only run touches tags once it runs, and
// tasks come in journal order, so a question is answered with the sets as they
// stood at its Seq.
type shard struct {
	number int
	of     int         // how many shards there are
	tasks  chan []task // the router sends and closes, run receives
	tags   map[string]*audience

	waiting atomic.Int64 // tasks that are not done
}

// audience is who follows and who mutes one tag.
type audience struct {
	follow *roaring.Bitmap
	mute   *roaring.Bitmap
}

// task is one entry's share for one shard: a question when tags is set, else a
// change.
type task struct {
	join *join
	tags []string // of the message, some that this shard owns
}

// join collects the shards' answers about one entry.
type join struct {
	entry   journal.Entry
	waiting sync.WaitGroup // for shards that have not answered

	mu     sync.Mutex // guards follow and mute until waiting is over
	follow *roaring.Bitmap
	mute   *roaring.Bitmap
}

func newShard(number, of int) *shard {
	return &shard{number: number, of: of, tasks: make(chan []task, 16), tags: make(map[string]*audience)}
}

func (s *shard) run() {
	for tasks := range s.tasks {
		s.do(tasks)
	}
}

func (s *shard) do(tasks []task) {
	for _, t := range tasks {
		if t.tags != nil {
			s.answer(t)
		} else {
			s.change(t.join.entry.Change)
		}
		t.join.waiting.Done()
	}
	s.waiting.Add(-int64(len(tasks)))
}

// answer adds the shard's part of the audience to the join. The parts are
// copies: the sets go on changing behind this entry.
func (s *shard) answer(t task) {
	for _, tag := range t.tags {
		a := s.tags[tag]
		if a == nil {
			continue
		}
		t.join.mu.Lock()
		t.join.follow = union(t.join.follow, a.follow)
		t.join.mute = union(t.join.mute, a.mute)
		t.join.mu.Unlock()
	}
}

func union(sum, part *roaring.Bitmap) *roaring.Bitmap {
	switch {
	case part.IsEmpty():
		return sum
	case sum == nil:
		return part.Clone()
	default:
		sum.Or(part)
		return sum
	}
}

// change applies the part of a change that concerns the shard's tags.
func (s *shard) change(c *journal.Change) {
	s.add(c.Follow, c.Reader, (*audience).followers)
	s.drop(c.Unfollow, c.Reader, (*audience).followers)
	s.add(c.Mute, c.Reader, (*audience).muters)
	s.drop(c.Unmute, c.Reader, (*audience).muters)
}

func (a *audience) followers() *roaring.Bitmap { return a.follow }
func (a *audience) muters() *roaring.Bitmap    { return a.mute }

func (s *shard) add(tags []string, r journal.Reader, set func(*audience) *roaring.Bitmap) {
	for _, tag := range tags {
		if shardOf(tag, s.of) == s.number {
			s.addTag(tag, r, set)
		}
	}
}

func (s *shard) drop(tags []string, r journal.Reader, set func(*audience) *roaring.Bitmap) {
	for _, tag := range tags {
		if shardOf(tag, s.of) == s.number {
			s.dropTag(tag, r, set)
		}
	}
}

// addTag and dropTag change one of the shard's own tags.
func (s *shard) addTag(tag string, r journal.Reader, set func(*audience) *roaring.Bitmap) {
	a := s.tags[tag]
	if a == nil {
		a = &audience{roaring.New(), roaring.New()}
		s.tags[strings.Clone(tag)] = a // or it would keep a whole record alive
	}
	set(a).Add(uint32(r))
}

func (s *shard) dropTag(tag string, r journal.Reader, set func(*audience) *roaring.Bitmap) {
	a := s.tags[tag]
	if a == nil {
		return
	}
	set(a).Remove(uint32(r))
	if a.follow.IsEmpty() && a.mute.IsEmpty() {
		delete(s.tags, tag)
	}
}

// audience is who shall have the entry's message: who follows one of its tags,
// less who mutes one. It is never nil and the caller's own.
func (j *join) audience() *roaring.Bitmap {
	switch {
	case j.follow == nil:
		return roaring.New()
	case j.mute != nil:
		j.follow.AndNot(j.mute)
	}
	j.follow.RunOptimize()
	return j.follow
}
