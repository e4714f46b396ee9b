package journal

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/dgraph-io/badger/v4"
)

func TestAppendGivesDensePlacesInOrder(t *testing.T) {
	dir := t.TempDir()
	j, end := start(t, dir)
	commits := []Commit{commit(1, 0x10, 3, 20), commit(1, 0x20, 1, 20), commit(1, 0x30, 0, 0), commit(1, 0x40, 2, 20)}
	mustAppend(t, j, commits...)
	if j.Head() != 6 || j.Oldest() != 1 {
		t.Errorf("journal holds %d to %d, want 1 to 6", j.Oldest(), j.Head())
	}
	wantMessages(t, read(t, j, 0, 4), 0, commits...)
	end()
	j, _ = start(t, dir)
	more := commit(1, 0x50, 2, 20)
	mustAppend(t, j, more)
	wantMessages(t, read(t, j, 0, 4), 0, append(commits, more)...)
}

// Readers change their subscriptions while the listener appends: every entry
// has its own place and a commit is never split.
func TestPlacesStayDenseUnderManyWriters(t *testing.T) {
	j, _ := start(t, t.TempDir())
	var writers sync.WaitGroup
	writers.Go(func() {
		for lsn := range LSN(200) {
			if err := j.Append(t.Context(), commit(1, lsn+1, 3, 10)); err != nil {
				t.Errorf("Append: %v", err)
			}
		}
	})
	for w := range 4 {
		writers.Go(func() {
			for i := range 50 {
				name := fmt.Sprintf("reader-%d-%d", w, i)
				seq, err := j.AppendChange(t.Context(), Change{Name: name, Reader: 1}, Update{})
				if err != nil {
					t.Errorf("AppendChange: %v", err)
				}
				if got, err := j.Next(t.Context(), seq-1, 1); err != nil || got[0].Change == nil || got[0].Change.Name != name {
					t.Errorf("at %d: %+v, %v, want the change of %s", seq, got, err, name)
				}
			}
		})
	}
	writers.Wait()
	mustSync(t, j)
	inCommit := 0
	for i, e := range read(t, j, 0, 64) {
		if e.Seq != Seq(i+1) {
			t.Fatalf("entry %d has Seq %d", i+1, e.Seq)
		}
		if e.Change != nil && inCommit%3 != 0 {
			t.Fatalf("a change at %d stands within a commit", e.Seq)
		}
		if e.Message != nil {
			if int(e.Message.ID.Ordinal) != inCommit%3 {
				t.Fatalf("ordinal %d at %d, want %d", e.Message.ID.Ordinal, e.Seq, inCommit%3)
			}
			inCommit++
		}
	}
	if inCommit != 600 || j.Head() != 800 {
		t.Errorf("%d messages in %d entries, want 600 in 800", inCommit, j.Head())
	}
}

func TestAppendTakesACommitOnce(t *testing.T) {
	dir := t.TempDir()
	j, end := start(t, dir)
	first, second := commit(1, 0x10, 2, 10), commit(1, 0x20, 2, 10)
	mustAppend(t, j, first, second, first, second)
	wantMessages(t, read(t, j, 0, 10), 0, first, second)
	end()
	j, end = start(t, dir)
	third := commit(1, 0x30, 1, 10)
	mustAppend(t, j, first, second, third, third) // as the slot sends them after a crash
	wantMessages(t, read(t, j, 0, 10), 0, first, second, third)
	// Another history may begin at a lower position and is not a repeat.
	other := commit(2, 0x08, 1, 10)
	mustAppend(t, j, other, third)
	wantMessages(t, read(t, j, 0, 10), 0, first, second, third, other)
	end()
	j, _ = start(t, dir)
	mustAppend(t, j, other, third)
	wantMessages(t, read(t, j, 0, 10), 0, first, second, third, other)
}

// A commit that does not fit one Badger transaction can be cut by a crash
// between two of them. Then none of it may have happened: neither a message
// nor the state of a row, from which its repeat would look like no change.
func TestCommitOfManyTransactionsIsDroppedWholeAndCanBeAppendedAgain(t *testing.T) {
	dir := t.TempDir()
	j, end := start(t, dir)
	kept := withRows(commit(1, 0x10, 3, 100), 0)
	mustAppend(t, j, kept)
	rows := states(t, j, "")
	torn := withRows(commit(1, 0x20, 8, 100), 1)
	for i := range torn.Messages {
		torn.Messages[i].Data = noise(uint64(i), maxTxnBytes/6)
	}
	end()
	for cut, all := 1, 2; cut < all; cut++ {
		j, end = open(t, dir) // not running: what is queued is only looked at
		mustAppend(t, j, torn)
		var ops []op
		for _, it := range j.queue[:len(j.queue)-1] {
			ops = append(ops, it.update.ops...)
		}
		all = len(ops) + 1
		if size, last := j.queued, j.queue[len(j.queue)-1]; size <= maxTxnBytes || last.update.size > 1000 {
			t.Fatalf("%d bytes are queued, %d of them in the last item; want more than a transaction takes and few", size, last.update.size)
		}
		for _, o := range ops[:cut] {
			if err := j.db.Update(func(txn *badger.Txn) error { return write(txn, o) }); err != nil {
				t.Fatal(err)
			}
		}
		end()
		j, end = start(t, dir)
		wantNothingOf(t, j, 3, torn)
		if got := states(t, j, ""); !maps.Equal(got, rows) {
			t.Errorf("torn at %d of %d records: rows = %v, want %v", cut, all, got, rows)
		}
		if n := spoolRecords(t, j) + spoolSets(t, j); n != 0 {
			t.Errorf("torn at %d of %d records: %d of them are left", cut, all, n)
		}
		end()
	}
	j, end = start(t, dir)
	mustAppend(t, j, torn)
	wantMessages(t, read(t, j, 0, 10), 0, kept, torn)
	end()
	j, _ = start(t, dir)
	wantMessages(t, read(t, j, 0, 10), 0, kept, torn)
	if got := states(t, j, ""); len(got) != 9 || got["t/001"] != "of 0/20" {
		t.Errorf("rows = %v", got)
	}
}

func TestCommitsBeyondOneTransactionAreSpooled(t *testing.T) {
	ofRows := func(n int) Commit {
		c := Commit{Epoch: 1, LSN: 0x10, End: 0x20}
		for i := range n {
			c.Rows = append(c.Rows, Row{Key: fmt.Appendf(nil, "t/%06d", i), State: []byte{1}})
		}
		return c
	}
	for _, c := range []struct {
		commit  Commit
		spooled bool
	}{
		{commit(1, 0x10, 7, maxTxnBytes/8), false},
		{commit(1, 0x10, 8, maxTxnBytes/8), true},
		{commit(1, 0x10, maxTxnOps/2, 10), false}, // an entry and an ID each
		{commit(1, 0x10, maxTxnOps/2+1, 10), true},
		{ofRows(maxTxnOps), false},
		{ofRows(maxTxnOps + 1), true},
	} {
		j, _ := start(t, t.TempDir())
		mustAppend(t, j, c.commit)
		if err := j.ApplySync(deadline(t), Update{}); err != nil {
			t.Error(err)
		}
		if spooled := j.spools.Last > 0; spooled != c.spooled || j.Confirmed() != c.commit.End {
			t.Errorf("%d messages and %d rows: spooled is %t, want %t; %s is confirmed", len(c.commit.Messages), len(c.commit.Rows), spooled, c.spooled, j.Confirmed())
		}
	}
}

func TestLargeCommitAndLargeMessagesSurvive(t *testing.T) {
	dir := t.TempDir()
	j, end := start(t, dir)
	manyRows := commit(1, 0x10, maxTxnOps, 10) // two records each: more than one transaction
	large := commit(1, 0x20, 6, 10)
	for i, size := range []int{maxValue - 1, maxValue, maxValue + 1, 1 << 20, 1<<20 + 1, 3 << 20} {
		large.Messages[i].Data = noise(uint64(i), size)
	}
	mustAppend(t, j, manyRows, large)
	mustSync(t, j)
	wantMessages(t, read(t, j, 0, 10_000), 0, manyRows, large)
	end()
	j, _ = start(t, dir)
	wantMessages(t, read(t, j, 0, 10_000), 0, manyRows, large)
	for i := range large.Messages {
		m, ok, err := j.Message(maxTxnOps + Seq(i) + 1)
		if err != nil || !ok {
			t.Fatalf("Message of %d bytes: %v, %v", len(large.Messages[i].Data), ok, err)
		}
		if err := sameMessage(m, &large.Messages[i]); err != nil {
			t.Error(err)
		}
	}
}

// A message that could not be read back would be found out after a restart
// only, when its commit is confirmed.
func TestAppendRefusesAnActionThatRecordsDoNotKnow(t *testing.T) {
	j, _ := start(t, t.TempDir())
	c := commit(1, 0x10, 2, 10)
	c.Messages[1].Action = "shout"
	if err := j.Append(t.Context(), c); err == nil {
		t.Error("Append took a message with the action \"shout\"")
	}
	if j.Head() != 0 {
		t.Errorf("head is %d after a refused commit", j.Head())
	}
}

// idle makes a journal without a database: what is queued stays queued until
// settle. Its waits are those of the real one, and a synctest bubble can hold it.
func idle() *Journal {
	j := &Journal{log: silent, ground: new(ground), hasWork: make(chan struct{}, 1), oldest: 1, bundleFrom: bundleFrom, toPack: make(chan *part, partsToPack)}
	j.m = newMetrics(nil, j)
	j.ground.at.Store(new(Room))
	return j
}

// settle acts as Run does once the disk has taken the queue.
func settle(j *Journal) { j.written(j.takeQueue()) }

func fill(t *testing.T, j *Journal) (lsn LSN) {
	t.Helper()
	for lsn = 1; j.Append(ended(), commit(1, lsn, 1, 1<<20)) == nil; lsn++ {
		if lsn > 2*maxQueue>>20 {
			t.Fatalf("%d MiB are queued and Append still takes more", lsn)
		}
	}
	if j.queued < maxQueue || j.queued > maxQueue+2<<20 {
		t.Fatalf("Append waits at %d bytes queued, want it at %d", j.queued, maxQueue)
	}
	return lsn
}

func TestFullQueueMakesEveryWriterWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := idle()
		lsn := fill(t, j)
		before := j.at
		writers := map[string]func(ctx context.Context) error{
			"Append":  func(ctx context.Context) error { return j.Append(ctx, commit(1, lsn, 1, 10)) },
			"Advance": func(ctx context.Context) error { return j.Advance(ctx, lsn+100) },
			"Apply":   func(ctx context.Context) error { return j.Apply(ctx, Update{}, nil) },
			"AppendChange": func(ctx context.Context) error {
				_, err := j.AppendChange(ctx, Change{Name: "ann"}, Update{})
				return err
			},
		}
		returned := make(chan error, len(writers))
		for name, write := range writers {
			if err := write(ended()); !errors.Is(err, context.Canceled) {
				t.Errorf("%s with no room and an ended context = %v", name, err)
			}
			go func() { returned <- write(t.Context()) }()
		}
		synctest.Wait()
		if len(returned) != 0 || j.at != before || len(j.tail) != int(before.Head) {
			t.Fatalf("%d writers did not wait; position %+v, was %+v", len(returned), j.at, before)
		}
		settle(j)
		for range writers {
			if err := <-returned; err != nil {
				t.Errorf("writer after the queue has room: %v", err)
			}
		}
		if j.Head() != before.Head+2 {
			t.Errorf("head is %d after two more entries, was %d", j.Head(), before.Head)
		}
	})
}

func TestWritersThatWaitLearnThatTheJournalEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := idle()
		lsn := fill(t, j)
		returned := make(chan error)
		go func() { returned <- j.Append(t.Context(), commit(1, lsn, 1, 10)) }()
		synctest.Wait()
		full := errors.New("no space left on device")
		j.seal(full)
		if err := <-returned; !errors.Is(err, full) {
			t.Errorf("Append = %v, want %v", err, full)
		}
	})
}
