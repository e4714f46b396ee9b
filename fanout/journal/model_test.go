package journal

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// model is the naive journal: everything in slices and maps.
type model struct {
	entries []Entry // from Seq 1 on; those that have expired too
	oldest  Seq
	rows    map[string]string
	lsn     LSN      // of the last commit, or of the one that is spooled
	open    []Commit // parts
	commits []Commit // whole
}

func (m *model) head() Seq { return Seq(len(m.entries)) }

func (m *model) place(c Commit) {
	for i := range c.Messages {
		m.entries = append(m.entries, Entry{Seq: m.head() + 1, Message: &c.Messages[i]})
	}
	setRows(m.rows, c.Rows)
	m.commits = append(m.commits, c)
}

func setRows(rows map[string]string, changes []Row) {
	for _, r := range changes {
		if delete(rows, string(r.Key)); r.State != nil {
			rows[string(r.Key)] = string(r.State)
		}
	}
}

// within gives the rows as they stand behind what is spooled.
func (m *model) within() map[string]string {
	rows := maps.Clone(m.rows)
	for _, part := range m.open {
		setRows(rows, part.Rows)
	}
	return rows
}

func (m *model) find(id ID) (p Place) {
	last := slices.IndexFunc(m.entries, func(e Entry) bool { return e.Message != nil && e.Message.ID.Compare(id) >= 0 })
	if last < 0 {
		return Place{Seq: m.head(), Ahead: true}
	}
	for _, e := range m.entries[m.oldest-1:] {
		if e.Message != nil && e.Message.ID.Compare(id) <= 0 {
			p = Place{Seq: e.Seq, Exact: e.Message.ID == id}
		}
	}
	if p.Seq > 0 || m.oldest == 1 {
		return p
	}
	p.Gone = true
	for _, e := range m.entries[:m.oldest-1] {
		if e.Message != nil { // the last one tells
			p.Gone = e.Message.ID.Compare(id) > 0
		}
	}
	return p
}

// part makes a part of the commit at m.lsn with random rows.
func (m *model) part(t *rapid.T, ordinal *int) Commit {
	c := commit(1, m.lsn, rapid.IntRange(0, 6).Draw(t, "messages"), 30)
	for i := range c.Messages {
		c.Messages[i] = message(1, m.lsn, *ordinal, 30)
		*ordinal += rapid.IntRange(1, 2).Draw(t, "step")
	}
	if len(c.Messages) > 0 && rapid.IntRange(0, 19).Draw(t, "large") == 0 {
		c.Messages[0].Data = noise(uint64(m.lsn), maxValue+100)
	}
	for _, key := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d"}), 0, 3, rapid.ID).Draw(t, "rows") {
		r := Row{Key: []byte(key)}
		if rapid.Bool().Draw(t, "kept") {
			r.State = fmt.Appendf(nil, "%s %d %s", m.lsn, *ordinal, key)
		}
		c.Rows = append(c.Rows, r)
	}
	return c
}

// Whatever is appended, spooled, dropped and expired, and wherever the journal
// is closed and opened, it holds and finds what the naive model does.
func TestJournalIsAsItsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "newswire-journal")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		s := &modelled{m: &model{oldest: 1, rows: make(map[string]string)}, dir: dir}
		s.start(t)
		defer func() { s.end(t) }()
		t.Repeat(map[string]func(*rapid.T){
			"append": s.append, "spool": s.spool, "spool more": s.spool, "finish": s.finish, "drop": s.drop,
			"repeat": s.repeat, "change": s.change, "expire": s.expire, "reopen": s.reopen, "": s.check,
		})
	})
}

// modelled is a journal beside its model.
type modelled struct {
	m       *model
	dir     string
	j       *Journal
	ordinal int              // of the next message of the spooled commit
	end     func(t *rapid.T) // closes it
}

func (s *modelled) start(t *rapid.T) {
	j, err := Open(Config{Dir: s.dir, Unsynced: true}, silent, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.j = j
	j.bundleFrom = rapid.IntRange(1, 8).Draw(t, "bundle from")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- j.Run(ctx) }()
	s.end = func(t *rapid.T) {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := j.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
}

func must(t *rapid.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s *modelled) append(t *rapid.T) {
	if s.m.open != nil {
		t.Skip("a commit is being spooled")
	}
	for range rapid.IntRange(1, 4).Draw(t, "commits") { // some are written together
		s.m.lsn += 0x10
		ordinal := 0
		c := s.m.part(t, &ordinal)
		must(t, s.j.Append(t.Context(), c))
		s.m.place(c)
	}
}

func (s *modelled) spool(t *rapid.T) {
	if s.m.open == nil {
		s.m.lsn += 0x10
		s.ordinal = 0
	}
	c := s.m.part(t, &s.ordinal)
	c.Spooled = len(s.m.open)
	must(t, s.j.Spool(t.Context(), c))
	s.m.open = append(s.m.open, c)
}

func (s *modelled) finish(t *rapid.T) {
	if s.m.open == nil {
		t.Skip("nothing is spooled")
	}
	c := s.m.part(t, &s.ordinal)
	c.Spooled = len(s.m.open)
	must(t, s.j.Append(t.Context(), c))
	whole := c
	whole.Spooled, whole.Messages, whole.Rows = 0, nil, nil
	for _, part := range append(s.m.open, c) {
		whole.Messages = append(whole.Messages, part.Messages...)
		whole.Rows = append(whole.Rows, part.Rows...)
	}
	s.m.place(whole)
	s.m.open = nil
}

func (s *modelled) drop(t *rapid.T) {
	must(t, s.j.DropSpool(t.Context()))
	if s.m.open != nil {
		s.m.lsn -= 0x10 // it may come again
	}
	s.m.open = nil
}

func (s *modelled) repeat(t *rapid.T) {
	if s.m.open != nil || len(s.m.commits) == 0 {
		t.Skip("nothing to repeat")
	}
	list := parts(rapid.SampledFrom(s.m.commits).Draw(t, "commit"), rapid.IntRange(2, 5).Draw(t, "size"))
	for _, part := range list[:len(list)-1] {
		must(t, s.j.Spool(t.Context(), part))
	}
	must(t, s.j.Append(t.Context(), list[len(list)-1]))
}

func (s *modelled) change(t *rapid.T) {
	seq, err := s.j.AppendChange(t.Context(), Change{Name: "ann", Reader: Reader(len(s.m.entries))}, Update{})
	must(t, err)
	s.m.entries = append(s.m.entries, Entry{Seq: seq, Change: &Change{Reader: Reader(seq - 1)}})
}

// expire leaves the last message: an empty journal knows no ID that was.
func (s *modelled) expire(t *rapid.T) {
	last := Seq(0)
	for _, e := range s.m.entries {
		if e.Message != nil {
			last = e.Seq
		}
	}
	if last <= s.m.oldest {
		t.Skip("nothing to expire")
	}
	through := Seq(rapid.Uint64Range(uint64(s.m.oldest), uint64(last-1)).Draw(t, "through"))
	must(t, s.j.WaitSynced(t.Context(), through))
	gone, err := s.j.Expire(t.Context(), time.Now().Add(time.Hour), through, func(*Update, Seq, *Message) error { return nil })
	must(t, err)
	if want := int(through - s.m.oldest + 1); gone != want {
		t.Fatalf("%d entries have expired, want %d", gone, want)
	}
	s.m.oldest = through + 1
}

func (s *modelled) reopen(t *rapid.T) {
	if rapid.IntRange(0, 2).Draw(t, "seldom") > 0 {
		t.Skip("it takes long")
	}
	s.end(t)
	s.start(t)
	if s.m.open != nil {
		s.m.lsn -= 0x10
	}
	s.m.open = nil
}

func (s *modelled) check(t *rapid.T) {
	if s.j.Head() != s.m.head() || s.j.Oldest() != s.m.oldest {
		t.Fatalf("the journal holds %d to %d, want %d to %d", s.j.Oldest(), s.j.Head(), s.m.oldest, s.m.head())
	}
	id := ID{1, s.m.lsn - LSN(rapid.IntRange(0, 5).Draw(t, "commits ago"))*0x10, uint32(rapid.IntRange(0, 15).Draw(t, "ordinal"))}
	if got, err := s.j.Find(id); err != nil || got != s.m.find(id) {
		t.Fatalf("Find(%s) = %+v, %v, want %+v", id, got, err, s.m.find(id))
	}
	for _, part := range s.m.open {
		for i := range part.Messages {
			m, _, err := s.j.MessageByID(part.Messages[i].ID)
			must(t, err)
			must(t, sameMessage(m, &part.Messages[i]))
		}
	}
	want, got := s.m.within(), make(map[string]string)
	must(t, s.j.Rows(nil, func(key, state []byte) error { got[string(key)] = string(state); return nil }))
	if !maps.Equal(got, want) {
		t.Fatalf("rows = %v, want %v", got, want)
	}
	for _, key := range []string{"a", "b", "c", "d"} {
		state, ok, err := s.j.Row([]byte(key))
		if _, there := want[key]; err != nil || ok != there || string(state) != want[key] {
			t.Fatalf("Row(%s) = %q, %v, want %q", key, state, err, want[key])
		}
	}
	s.checkFollower(t) // last: it waits for the sync
}

// checkFollower follows the journal from anywhere to its head.
func (s *modelled) checkFollower(t *rapid.T) {
	after := Seq(rapid.Uint64Range(0, uint64(s.m.head())).Draw(t, "after"))
	limit := rapid.IntRange(1, 9).Draw(t, "limit")
	for next := max(after+1, s.m.oldest); next <= s.m.head(); {
		entries, err := s.j.Next(t.Context(), after, limit)
		must(t, err)
		if len(entries) == 0 || len(entries) > limit {
			t.Fatalf("Next(%d, %d) gave %d entries", after, limit, len(entries))
		}
		for _, e := range entries {
			want := s.m.entries[next-1]
			if e.Seq != next || (e.Change != nil) != (want.Change != nil) {
				t.Fatalf("Next(%d) gave %+v at %d, want %+v", after, e, next, want)
			}
			if want.Message != nil {
				must(t, sameMessage(e.Message, want.Message))
				m, ok, err := s.j.Message(e.Seq)
				must(t, err)
				if !ok || m.ID != want.Message.ID {
					t.Fatalf("Message(%d) = %v", e.Seq, m)
				}
			} else if e.Change.Reader != want.Change.Reader {
				t.Fatalf("change %d is of reader %d, want %d", e.Seq, e.Change.Reader, want.Change.Reader)
			}
			next++
		}
		after = next - 1
	}
}
