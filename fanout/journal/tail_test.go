package journal

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestFollowerReadsFromDiskAndMemoryWithoutASeam(t *testing.T) {
	j, _ := open(t, t.TempDir())
	stop := run(t, j)
	var commits []Commit
	for lsn := LSN(1); lsn <= 3*tailEntries/4; lsn++ {
		commits = append(commits, commit(1, lsn, 4, 10))
	}
	mustAppend(t, j, commits...)
	stop()
	base := j.at.Head - tailEntries
	if n := len(j.tail); n != tailEntries || j.tail[0].Seq != base+1 {
		t.Fatalf("%d of %d entries in memory from %d on, want %d", n, j.at.Head, j.tail[0].Seq, tailEntries)
	}
	for _, limit := range []int{1000, tailEntries - 1, 1 << 20} {
		wantMessages(t, read(t, j, 0, limit), 0, commits...)
	}
	for _, after := range []Seq{0, 1, base - 2, base - 1, base, base + 1, j.at.Head - 1} {
		entries, err := j.Next(deadline(t), after, 3)
		if err != nil || len(entries) == 0 || entries[0].Seq != after+1 {
			t.Errorf("Next(%d) = %d entries, %v", after, len(entries), err)
		}
		m, ok, err := j.Message(after + 1)
		if err != nil || !ok || m.ID != entries[0].Message.ID {
			t.Errorf("Message(%d) = %v, %v, %v", after+1, m, ok, err)
		}
	}
}

func TestTailIsBoundedInBytes(t *testing.T) {
	j, _ := open(t, t.TempDir())
	stop := run(t, j)
	var commits []Commit
	for lsn := LSN(1); lsn <= 48; lsn++ {
		commits = append(commits, commit(1, lsn, 1, 1<<20))
	}
	mustAppend(t, j, commits...)
	stop()
	held := 0
	for _, e := range j.tail {
		held += weight(e)
	}
	if held != j.bytes || held > tailBytesMax || len(j.tail) < 30 {
		t.Errorf("%d entries of %d bytes in memory, counted as %d, limit %d", len(j.tail), held, j.bytes, tailBytesMax)
	}
	wantMessages(t, read(t, j, 0, 7), 0, commits...)
}

// The followers of a stuck disk must not lose what has a place.
func TestUnsyncedEntriesStayInMemory(t *testing.T) {
	j := idle()
	for lsn := LSN(1); lsn <= 2*tailEntries; lsn++ {
		mustAppend(t, j, commit(1, lsn, 1, 10))
	}
	j.trimLocked(10)
	if n := len(j.tail); n != 2*tailEntries-10 {
		t.Errorf("%d of %d entries in memory when 10 are synced", n, 2*tailEntries)
	}
}

func TestNextWaitsForAnEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := idle()
		mustAppend(t, j, commit(1, 1, 1, 10))
		got := make(chan []Entry, 3)
		for _, after := range []Seq{0, 1, 2} {
			go func() {
				entries, err := j.Next(t.Context(), after, 10)
				if err != nil {
					t.Errorf("Next(%d): %v", after, err)
				}
				got <- entries
			}()
		}
		if first := <-got; first[0].Seq != 1 {
			t.Errorf("Next(0) began with %d", first[0].Seq)
		}
		synctest.Wait()
		if len(got) != 0 {
			t.Fatal("Next returned with nothing behind it")
		}
		mustAppend(t, j, commit(1, 2, 1, 10))
		if second := <-got; len(second) != 1 || second[0].Seq != 2 {
			t.Errorf("Next(1) = %+v", second)
		}
		synctest.Wait()
		if len(got) != 0 {
			t.Fatal("Next(2) returned before entry 3 had its place")
		}
		if _, err := j.AppendChange(t.Context(), Change{Name: "ann"}, Update{}); err != nil {
			t.Fatal(err)
		}
		if third := <-got; len(third) != 1 || third[0].Change.Name != "ann" {
			t.Errorf("Next(2) = %+v", third)
		}
	})
}

func TestNextEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := idle()
		because := errors.New("the reader left")
		ctx, cancel := context.WithCancelCause(t.Context())
		failed := make(chan error, 1)
		go func() {
			_, err := j.Next(ctx, 0, 1)
			failed <- err
		}()
		synctest.Wait()
		cancel(because)
		if err := <-failed; !errors.Is(err, because) {
			t.Errorf("Next = %v, want %v", err, because)
		}
	})
}

func TestMessageTellsWhatIsNone(t *testing.T) {
	j, _ := start(t, t.TempDir())
	if _, err := j.AppendChange(t.Context(), Change{Name: "ann"}, Update{}); err != nil {
		t.Fatal(err)
	}
	for _, seq := range []Seq{0, 1, 2, 1 << 40} {
		if m, ok, err := j.Message(seq); m != nil || ok || err != nil {
			t.Errorf("Message(%d) = %v, %v, %v", seq, m, ok, err)
		}
	}
}

// journalWithout makes a journal of commits 0x10, 0x20 … 0x60, with two
// messages each and a change behind the second, and takes entries away behind
// its back.
func journalWithout(t *testing.T, gone Seq) *Journal {
	t.Helper()
	dir := t.TempDir()
	j, end := start(t, dir)
	mustAppend(t, j, commit(1, 0x10, 2, 10), commit(1, 0x20, 2, 10)) // 1 to 4
	if _, err := j.AppendChange(t.Context(), Change{Name: "ann"}, Update{}); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, j, commit(1, 0x30, 2, 10), commit(1, 0x40, 2, 10), commit(1, 0x50, 2, 10), commit(1, 0x60, 2, 10)) // 6 to 13
	mustSync(t, j)
	if _, err := j.Expire(deadline(t), time.Now().Add(time.Hour), gone, func(*Update, Seq, *Message) error { return nil }); err != nil {
		t.Fatal(err)
	}
	end()
	j, _ = start(t, dir)
	return j
}

func TestFollowerBehindTheOldestGoesOnThere(t *testing.T) {
	j := journalWithout(t, 6)
	if j.Oldest() != 7 || j.Head() != 13 {
		t.Fatalf("journal holds %d to %d, want 7 to 13", j.Oldest(), j.Head())
	}
	for _, after := range []Seq{0, 3, 6} {
		entries, err := j.Next(deadline(t), after, 2)
		if err != nil || len(entries) != 2 || entries[0].Seq != 7 {
			t.Errorf("Next(%d, 2) = %+v, %v, want 7 and 8", after, entries, err)
		}
	}
}

func TestFind(t *testing.T) {
	id := func(lsn LSN, ordinal uint32) ID { return ID{Epoch: 1, LSN: lsn, Ordinal: ordinal} }
	for name, c := range map[string]struct {
		id   ID
		want Place
	}{
		"exact":                      {id(0x30, 0), Place{Seq: 6, Exact: true}},
		"exact, the first":           {id(0x10, 0), Place{Seq: 1, Exact: true}},
		"exact, the last on disk":    {id(0x60, 1), Place{Seq: 13, Exact: true}},
		"between two commits":        {id(0x21, 0), Place{Seq: 4}},
		"behind a commit's messages": {id(0x40, 9), Place{Seq: 9}},
		"before everything":          {id(0x01, 0), Place{}},
		"of no message":              {ID{}, Place{}},
		"unsynced, exact":            {id(0x70, 1), Place{Seq: 15, Exact: true}},
		"unsynced, between":          {id(0x70, 9), Place{Seq: 15}},
		"between disk and unsynced":  {id(0x61, 0), Place{Seq: 13}},
		"exact, the last":            {id(0x80, 0), Place{Seq: 17, Exact: true}},
		"ahead":                      {id(0x80, 1), Place{Seq: 18, Ahead: true}},
		"ahead by an epoch":          {ID{Epoch: 2}, Place{Seq: 18, Ahead: true}},
	} {
		t.Run(name, func(t *testing.T) {
			j := journalWithout(t, 0)
			addUnsynced(t, j)
			if got, err := j.Find(c.id); err != nil || got != c.want {
				t.Errorf("Find(%+v) = %+v, %v, want %+v", c.id, got, err, c.want)
			}
		})
	}
}

// addUnsynced puts entries 14 to 18 behind those of journalWithout, when no
// more can reach the disk: two messages, a change, a message, a change.
func addUnsynced(t *testing.T, j *Journal) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range []Entry{
		{Message: &commit(1, 0x70, 2, 10).Messages[0]},
		{Message: &commit(1, 0x70, 2, 10).Messages[1]},
		{Change: &Change{Name: "ann"}},
		{Message: &commit(1, 0x80, 1, 10).Messages[0]},
		{Change: &Change{Name: "bob"}},
	} {
		j.placeLocked(e)
		if e.Message != nil {
			j.lastID = e.Message.ID
		}
	}
}

func TestFindTellsWhatIsNoLongerKept(t *testing.T) {
	j := journalWithout(t, 3)
	for _, c := range []struct {
		lsn  LSN
		want Place
	}{
		{0x10, Place{Gone: true}}, {0x20, Place{}}, {0x28, Place{Seq: 4}}, {0x30, Place{Seq: 6, Exact: true}},
	} {
		if got, err := j.Find(ID{Epoch: 1, LSN: c.lsn}); err != nil || got != c.want {
			t.Errorf("Find(%s) = %+v, %v, want %+v", c.lsn, got, err, c.want)
		}
	}
}

func TestFindInAnEmptyJournal(t *testing.T) {
	j, _ := open(t, t.TempDir())
	if got, err := j.Find(ID{}); err != nil || got != (Place{}) {
		t.Errorf("Find of no message = %+v, %v", got, err)
	}
	if got, err := j.Find(ID{Epoch: 1, LSN: 1}); err != nil || !got.Ahead || got.Seq != 0 {
		t.Errorf("Find = %+v, %v, want it ahead", got, err)
	}
}
