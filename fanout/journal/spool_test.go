package journal

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"

	"github.com/dgraph-io/badger/v4"
)

// parts cuts a commit as one that is spooled: all but the last are for Spool.
func parts(c Commit, size int) (list []Commit) {
	for len(c.Messages) > 0 || len(c.Rows) > 0 || len(list) == 0 {
		part := c
		part.Messages = c.Messages[:min(size, len(c.Messages))]
		part.Rows = c.Rows[:min(size, len(c.Rows))]
		part.Spooled = len(list)
		list = append(list, part)
		c.Messages, c.Rows = c.Messages[len(part.Messages):], c.Rows[len(part.Rows):]
	}
	return list
}

func mustSpool(t testing.TB, j *Journal, parts ...Commit) {
	t.Helper()
	for _, c := range parts {
		if err := j.Spool(deadline(t), c); err != nil {
			t.Fatalf("Spool: %v", err)
		}
	}
}

// appendSpooled appends a commit in parts.
func appendSpooled(t testing.TB, j *Journal, c Commit, size int) {
	t.Helper()
	list := parts(c, size)
	mustSpool(t, j, list[:len(list)-1]...)
	mustAppend(t, j, list[len(list)-1])
}

func mustDrop(t testing.TB, j *Journal) {
	t.Helper()
	if err := j.DropSpool(deadline(t)); err != nil {
		t.Fatalf("DropSpool: %v", err)
	}
}

// withRows gives a commit a row per message, numbered from the first.
func withRows(c Commit, first int) Commit {
	for i := range c.Messages {
		c.Rows = append(c.Rows, Row{fmt.Appendf(nil, "t/%03d", first+i), fmt.Appendf(nil, "of %s", c.LSN)})
	}
	return c
}

// wantNothingOf checks that no reader sees a message of c.
func wantNothingOf(t *testing.T, j *Journal, head Seq, c Commit) {
	t.Helper()
	if j.Head() != head {
		t.Fatalf("head is %d, want %d", j.Head(), head)
	}
	for _, m := range c.Messages {
		if p, err := j.Find(m.ID); err != nil || p != (Place{Seq: head, Ahead: true}) {
			t.Fatalf("Find(%s) = %+v, %v, want it ahead of the journal", m.ID, p, err)
		}
	}
	for seq := head + 1; seq <= head+Seq(len(c.Messages)); seq++ {
		if m, ok, err := j.Message(seq); ok || err != nil {
			t.Fatalf("Message(%d) = %v, %v", seq, m, err)
		}
	}
	if entries, err := j.Next(ended(), head, 10); err == nil {
		t.Fatalf("Next(%d) = %d entries", head, len(entries))
	}
	if entries, err := j.Range(head, head+10); err != nil || len(entries) > 0 {
		t.Fatalf("Range(%d) = %d entries, %v", head, len(entries), err)
	}
}

// wantFound checks that every message is found by its ID, from after on.
func wantFound(t *testing.T, j *Journal, after Seq, messages []Message) {
	t.Helper()
	for i := range messages {
		seq, id := after+Seq(i)+1, messages[i].ID
		if p, err := j.Find(id); err != nil || p != (Place{Seq: seq, Exact: true}) {
			t.Fatalf("Find(%s) = %+v, %v, want %d", id, p, err, seq)
		}
		m, ok, err := j.MessageByID(id)
		if err != nil || !ok {
			t.Fatalf("MessageByID(%s): %v, %v", id, ok, err)
		}
		if err := sameMessage(m, &messages[i]); err != nil {
			t.Fatal(err)
		}
	}
}

// spoolRecords counts the messages that are kept in the spools' space.
func spoolRecords(t *testing.T, j *Journal) (n int) {
	t.Helper()
	err := j.View(func(v View) error {
		return v.keys(spaceSpools, nil, func(key []byte) (bool, error) {
			if _, b, whole := blockOf(key); whole {
				n += int(b.last - b.first + 1)
			}
			return true, nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// spoolSets counts the sets of states of rows that have not been merged.
func spoolSets(t *testing.T, j *Journal) (n int) {
	t.Helper()
	err := j.View(func(v View) error {
		return v.keys(spaceSpooled, nil, func([]byte) (bool, error) { n++; return true, nil })
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestSpooledCommitIsSeenByNobodyThenByAllAtOnce(t *testing.T) {
	dir := t.TempDir()
	j, end := start(t, dir)
	first, last := commit(1, 0x10, 3, 50), commit(1, 0x30, 2, 50)
	large := commit(1, 0x20, 100, 50)
	large.Messages[41].Data = noise(1, 5*maxValue/2)
	mustAppend(t, j, first)
	list := parts(large, 15)
	for _, part := range list[:len(list)-1] {
		mustSpool(t, j, part)
		wantNothingOf(t, j, 3, large)
	}
	mustAppend(t, j, list[len(list)-1])
	if j.Head() != 103 {
		t.Fatalf("head is %d behind the commit, want 103", j.Head())
	}
	wantFound(t, j, 3, large.Messages) // synced or not
	wantMessages(t, read(t, j, 0, 7), 0, first, large)
	mustAppend(t, j, last)
	wantMessages(t, read(t, j, 0, 1000), 0, first, large, last)
	mustSync(t, j)
	if got := j.Confirmed(); got != last.End {
		t.Errorf("Confirmed() = %s, want %s", got, last.End)
	}
	end()
	j, _ = start(t, dir)
	wantMessages(t, read(t, j, 0, 7), 0, first, large, last)
	wantFound(t, j, 0, append(append(first.Messages, large.Messages...), last.Messages...))
	if p, err := j.Find(ID{Epoch: 1, LSN: 0x20, Ordinal: 5000}); err != nil || p != (Place{Seq: 103}) {
		t.Errorf("Find behind the spooled commit = %+v, %v", p, err)
	}
}

// What a spooled commit is read from is the disk alone: it must not stay in
// memory, and a follower waits for the sync.
func TestSpooledMessagesAreNotKeptInMemory(t *testing.T) {
	j, _ := open(t, t.TempDir())
	first, large, last := commit(1, 0x10, 2, 100), commit(1, 0x20, 50, 100), commit(1, 0x30, 1, 100)
	mustAppend(t, j, first)
	list := parts(large, 20)
	mustSpool(t, j, list[0])
	batch := j.takeQueue() // the first part is on disk, and the others wait
	if err := j.commit(deadline(t), batch); err != nil {
		t.Fatal(err)
	}
	j.written(batch)
	mustSpool(t, j, list[1])
	mustAppend(t, j, list[2], last)
	if len(j.tail) != 3 {
		t.Errorf("%d messages in memory, want the three that were not spooled", len(j.tail))
	}
	wantFound(t, j, 0, slices.Concat(first.Messages, large.Messages, last.Messages))
	if entries, err := j.Range(2, j.Head()); err != nil || len(entries) != 0 {
		t.Errorf("Range = %d entries that are not durable, %v", len(entries), err)
	}
	if entries, err := j.Next(ended(), 2, 10); err == nil {
		t.Errorf("Next = %d entries that are not durable", len(entries))
	}
	if entries, err := j.Next(ended(), 52, 10); err != nil || len(entries) != 1 {
		t.Errorf("Next behind the spooled commit = %d entries, %v", len(entries), err)
	}
	run(t, j)
	if entries, err := j.Next(deadline(t), 2, 10); err != nil || len(entries) != 10 {
		t.Errorf("Next = %d entries, %v", len(entries), err)
	}
	mustSync(t, j)
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.unwritten) != 0 {
		t.Errorf("%d blocks are kept in memory that are on disk", len(j.unwritten))
	}
}

func TestUnfinishedCommitIsGoneAfterARestartAndComesAgain(t *testing.T) {
	dir := t.TempDir()
	j, end := start(t, dir)
	kept := withRows(commit(1, 0x10, 3, 50), 0)
	mustAppend(t, j, kept)
	large := withRows(commit(1, 0x20, 40, 50), 1)
	list := parts(large, 10)
	for n := 1; n < len(list); n++ {
		mustSpool(t, j, list[:n]...)
		end()
		j, end = start(t, dir)
		wantNothingOf(t, j, 3, large)
		if n := spoolRecords(t, j); n != 0 {
			t.Errorf("%d records are left", n)
		}
		if n := spoolSets(t, j); n != 0 {
			t.Errorf("%d sets of rows are left", n)
		}
		want := map[string]string{"t/000": "of 0/10", "t/001": "of 0/10", "t/002": "of 0/10"}
		if got := states(t, j, "t/"); !reflect.DeepEqual(got, want) {
			t.Errorf("rows = %v, want those from before it", got)
		}
	}
	appendSpooled(t, j, large, 10)
	wantMessages(t, read(t, j, 0, 10), 0, kept, large)
	end()
	j, _ = start(t, dir)
	wantMessages(t, read(t, j, 0, 10), 0, kept, large)
	if got := states(t, j, "t/"); len(got) != 41 || got["t/001"] != "of 0/20" || got["t/000"] != "of 0/10" {
		t.Errorf("rows = %v", got)
	}
}

// A crash may come between any two of the records.
func TestSpooledCommitTornAnywhereIsDroppedWhole(t *testing.T) {
	dir := t.TempDir()
	j, end := start(t, dir)
	kept := withRows(commit(1, 0x10, 3, 50), 0)
	mustAppend(t, j, kept)
	rows := states(t, j, "")
	end()
	torn := withRows(commit(1, 0x20, 5, 50), 1)
	torn.Messages[2].Data = noise(1, 3*maxValue/2)
	for cut, all := 1, 2; cut < all; cut++ {
		j, end = open(t, dir) // not running: what is queued is only looked at
		appendSpooled(t, j, torn, 2)
		var ops []op
		for _, it := range j.queue[:len(j.queue)-1] {
			ops = append(ops, it.update.ops...)
		}
		all = len(ops) + 1
		err := j.db.Update(func(txn *badger.Txn) error {
			for _, o := range ops[:cut] {
				if err := write(txn, o); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		end()
		j, end = start(t, dir)
		wantNothingOf(t, j, 3, torn)
		if n := spoolRecords(t, j); n != 0 {
			t.Errorf("cut at %d of %d records: %d are left", cut, all, n)
		}
		if n := spoolSets(t, j); n != 0 || len(j.sets) != 0 {
			t.Errorf("cut at %d of %d records: %d sets of rows are left, %d in memory", cut, all, n, len(j.sets))
		}
		if got := states(t, j, ""); !maps.Equal(got, rows) {
			t.Errorf("cut at %d of %d records: rows = %v, want %v", cut, all, got, rows)
		}
		end()
	}
	j, _ = start(t, dir)
	appendSpooled(t, j, torn, 2)
	wantMessages(t, read(t, j, 0, 10), 0, kept, torn)
}

func TestSpooledCommitIsCommittedByOneSmallItem(t *testing.T) {
	j := idle()
	appendSpooled(t, j, commit(1, 0x10, 2*maxTxnOps, 1), maxTxnOps/4)
	last := j.queue[len(j.queue)-1]
	if len(last.update.ops) != 2 || last.after.Head != 2*maxTxnOps || last.after.Commit != 0x10 {
		t.Errorf("the last item has %d records and leads to %+v", len(last.update.ops), last.after)
	}
	for _, it := range j.queue[:len(j.queue)-1] {
		if it.after.Head != 0 || it.after.Commit != 0 || it.after.Confirmed != 0 {
			t.Fatalf("a part leads to %+v before the end is read", it.after)
		}
	}
}

func TestChangesKeepTheirPlaceWhileACommitIsSpooled(t *testing.T) {
	dir := t.TempDir()
	j, end := start(t, dir)
	mustAppend(t, j, commit(1, 0x10, 1, 50))
	list := parts(commit(1, 0x20, 20, 50), 7)
	var want []Seq
	for i, part := range list {
		seq, err := j.AppendChange(deadline(t), Change{Name: fmt.Sprint("reader ", i)}, Update{})
		if err != nil || seq != Seq(i+2) {
			t.Fatalf("AppendChange = %d, %v", seq, err)
		}
		entries, err := j.Next(ended(), seq-1, 10) // at once
		if err != nil || len(entries) != 1 || entries[0].Change == nil {
			t.Fatalf("Next(%d) = %d entries, %v", seq-1, len(entries), err)
		}
		if err := j.WaitSynced(deadline(t), seq); err != nil {
			t.Fatal(err)
		}
		want = append(want, seq)
		if i < len(list)-1 {
			mustSpool(t, j, part)
		}
	}
	mustAppend(t, j, list[len(list)-1])
	end()
	j, _ = start(t, dir)
	for i, e := range read(t, j, 1, 5) {
		if e.Seq != Seq(i+2) || (e.Change != nil) != (i < len(want)) {
			t.Errorf("entry %d: %+v", i, e)
		}
	}
	if j.Head() != 24 {
		t.Errorf("head is %d, want 24", j.Head())
	}
}

func TestSpoolLeavesTheQueueToOthers(t *testing.T) {
	j := idle()
	c := commit(1, 0x10, 64, 1<<20)
	for i := range c.Messages {
		c.Messages[i].Data = noise(uint64(i), 1<<20) // nothing makes it smaller
	}
	var err error
	for _, part := range parts(c, 1) {
		if err = j.Spool(ended(), part); err != nil {
			break
		}
	}
	if err == nil || j.queued > maxSpoolQueue+2<<20 {
		t.Errorf("%d bytes are queued, then %v; want a wait at %d", j.queued, err, maxSpoolQueue)
	}
	if _, err := j.AppendChange(ended(), Change{Name: "ann"}, Update{}); err != nil {
		t.Errorf("AppendChange meanwhile: %v", err)
	}
}

func TestPartsOfAnotherCommitAreRefused(t *testing.T) {
	j, _ := start(t, t.TempDir())
	list := parts(commit(1, 0x10, 30, 10), 10)
	other := parts(commit(1, 0x20, 30, 10), 10)
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, ErrSpool) {
			t.Errorf("%s = %v, want ErrSpool", what, err)
		}
	}
	refused("Spool of a second part", j.Spool(deadline(t), list[1]))
	refused("Append of a last part", j.Append(deadline(t), list[2]))
	mustSpool(t, j, list[0])
	refused("Spool of the same part again", j.Spool(deadline(t), list[0]))
	refused("Spool of a third part", j.Spool(deadline(t), list[2]))
	refused("Spool of another commit", j.Spool(deadline(t), other[0]))
	refused("Append of another commit", j.Append(deadline(t), commit(1, 0x20, 1, 10)))
	refused("Append of the whole commit", j.Append(deadline(t), commit(1, 0x10, 1, 10)))
	again := list[1]
	again.Messages = list[0].Messages
	refused("Spool of the same messages", j.Spool(deadline(t), again))
	mustSpool(t, j, list[1])
	mustAppend(t, j, list[2])
	wantMessages(t, read(t, j, 0, 10), 0, commit(1, 0x10, 30, 10))
}

func TestSpooledMessagesAreGivenToTheOneWhoSpools(t *testing.T) {
	j, _ := start(t, t.TempDir())
	c := commit(1, 0x20, 30, 10)
	c.Messages[3].Data = noise(3, maxValue+1)
	list := parts(c, 10)
	mustSpool(t, j, list[0])
	if err := j.ApplySync(deadline(t), Update{}); err != nil { // one part on disk, one perhaps not
		t.Fatal(err)
	}
	mustSpool(t, j, list[1])
	for i := range c.Messages {
		m, ok, err := j.MessageByID(c.Messages[i].ID)
		if err != nil || ok != (i < 20) {
			t.Fatalf("MessageByID of message %d: %v, %v", i, ok, err)
		}
		if ok {
			if err := sameMessage(m, &c.Messages[i]); err != nil {
				t.Error(err)
			}
		}
	}
	mustDrop(t, j)
	if err := j.ApplySync(deadline(t), Update{}); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := j.MessageByID(c.Messages[0].ID); ok || err != nil {
		t.Errorf("MessageByID of a dropped message: %v, %v", ok, err)
	}
	if n := spoolRecords(t, j); n != 0 {
		t.Errorf("%d records of a dropped commit are left", n)
	}
}
