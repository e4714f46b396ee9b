package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
)

func set(key, value string) (u Update) {
	u.Set(SpaceReaders.Key([]byte(key)...), []byte(value))
	return u
}

func get(t *testing.T, j *Journal, key string) (value string, ok bool) {
	t.Helper()
	err := j.View(func(v View) error {
		b, found, err := v.Get(SpaceReaders.Key([]byte(key)...))
		value, ok = string(b), found
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return value, ok
}

func TestChangeAndItsRecordsAreOneTransaction(t *testing.T) {
	dir := t.TempDir()
	j, end := start(t, dir)
	mustAppend(t, j, commit(1, 0x10, 1, 10))
	want := Change{Name: "ann", Reader: 1, Follow: []string{"sport"}, Mute: []string{"team-1"}}
	seq, err := j.AppendChange(t.Context(), want, set("ann", "1"))
	if err != nil || seq != 2 {
		t.Fatalf("AppendChange = %d, %v", seq, err)
	}
	mustSync(t, j)
	placed := read(t, j, 1, 1)[0].Change.Time
	if time.Since(placed).Abs() > patience || placed != placed.Truncate(time.Microsecond).UTC() {
		t.Errorf("the change's time is %s", placed)
	}
	err = j.db.View(func(txn *badger.Txn) error {
		entry, err := txn.Get(spaceEntries.Seq(seq))
		if err != nil {
			return err
		}
		record, err := txn.Get(SpaceReaders.Key([]byte("ann")...))
		if err != nil {
			return err
		}
		if entry.Version() != record.Version() {
			t.Errorf("the change is of transaction %d, its record of %d", entry.Version(), record.Version())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	end()
	j, _ = open(t, dir)
	if value, ok := get(t, j, "ann"); value != "1" || !ok {
		t.Errorf("record after reopening = %q, %v", value, ok)
	}
	want.Time = placed
	entries := read(t, j, 1, 1)
	if c := entries[0].Change; c == nil || !slices.Equal(appendChange(nil, c), appendChange(nil, &want)) {
		t.Errorf("change after reopening = %+v, want %+v", c, want)
	}
}

// tooLarge are the updates that no single transaction can hold.
func tooLarge() map[string]Update {
	var bytes, count Update
	for i := range 9 {
		bytes.Set(SpaceReaders.Seq(Seq(i)), make([]byte, maxValue))
	}
	for i := range maxTxnOps + 1 {
		count.Delete(SpaceReaders.Seq(Seq(i)))
	}
	return map[string]Update{"bytes": bytes, "records": count}
}

func TestUpdateThatIsNotOneTransactionIsRefused(t *testing.T) {
	j, _ := start(t, t.TempDir())
	for name, u := range tooLarge() {
		if err := j.Apply(t.Context(), u, func(error) { t.Error("done is called after an error") }); err == nil {
			t.Errorf("Apply took too many %s", name)
		}
		if _, err := j.AppendChange(t.Context(), Change{Name: "ann"}, u); err == nil {
			t.Errorf("AppendChange took too many %s", name)
		}
	}
	if j.Head() != 0 {
		t.Errorf("head is %d after refused changes", j.Head())
	}
}

// The limits must leave room for what Badger adds to each record.
func TestLargestUpdateFitsATransaction(t *testing.T) {
	j, _ := start(t, t.TempDir())
	var count, bytes Update
	for i := range maxTxnOps {
		count.Set(SpaceReaders.Seq(Seq(i)), make([]byte, (maxTxnBytes-maxTxnOps*9)/maxTxnOps))
	}
	for i := 0; bytes.Size() < maxTxnBytes; i++ {
		bytes.Set(SpaceReaders.Seq(Seq(i)), make([]byte, max(0, min(maxValue, maxTxnBytes-bytes.Size()-9))))
	}
	for name, u := range map[string]Update{"records": count, "bytes": bytes} {
		if err := j.ApplySync(deadline(t), u); err != nil {
			t.Errorf("ApplySync of the most %s: %v", name, err)
		}
	}
}

func TestAppliedRecordsAreDurableInOrderAndBehindWhatCameBefore(t *testing.T) {
	j, end := start(t, t.TempDir())
	const n = 500
	order := make(chan int, n)
	for i := range n {
		mustAppend(t, j, commit(1, LSN(i+1), 1, 10))
		head := j.Head()
		err := j.Apply(t.Context(), set("cursor", fmt.Sprint(i)), func(err error) {
			if err != nil {
				t.Errorf("done(%v)", err)
			}
			if synced := j.synced.At(); synced < head {
				t.Errorf("update %d is done at %d, before the entry %d", i, synced, head)
			}
			if value, ok := get(t, j, "cursor"); !ok {
				t.Errorf("update %d is done and not in the database: %q", i, value)
			}
			order <- i
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for want := range n {
		if got := <-order; got != want {
			t.Fatalf("update %d is done, want %d", got, want)
		}
	}
	if value, _ := get(t, j, "cursor"); value != fmt.Sprint(n-1) {
		t.Errorf("record holds update %s, want the last", value)
	}
	end()
}

func TestUpdateDeletesAndKeepsEmptyValues(t *testing.T) {
	j, _ := start(t, t.TempDir())
	var u Update
	if !u.Empty() || u.Size() != 0 {
		t.Errorf("a new update is not empty: %d bytes", u.Size())
	}
	u.Set(SpaceReaders.Key([]byte("empty")...), nil)
	u.Set(SpaceReaders.Key([]byte("ann")...), []byte("1"))
	u.Delete(SpaceReaders.Key([]byte("nobody")...))
	if err := j.ApplySync(deadline(t), u); err != nil {
		t.Fatal(err)
	}
	if value, ok := get(t, j, "empty"); value != "" || !ok {
		t.Errorf("empty record = %q, %v", value, ok)
	}
	var v Update
	v.Delete(SpaceReaders.Key([]byte("ann")...))
	if err := j.ApplySync(deadline(t), v); err != nil {
		t.Fatal(err)
	}
	if value, ok := get(t, j, "ann"); ok {
		t.Errorf("deleted record = %q", value)
	}
}

func TestScanGoesThroughOneSpaceInOrder(t *testing.T) {
	j, _ := start(t, t.TempDir())
	var u Update
	for _, seq := range []Seq{300, 1, 70_000, 2} {
		u.Set(SpaceAudience.Seq(seq), []byte{byte(seq)})
		u.Set(SpaceProgress.Seq(seq), []byte("another space"))
	}
	if err := j.ApplySync(deadline(t), u); err != nil {
		t.Fatal(err)
	}
	scan := func(from []byte, most int) (got []Seq) {
		err := j.View(func(v View) error {
			return v.Scan(SpaceAudience, from, func(key, value []byte) (bool, error) {
				if seq := SeqOf(key); len(value) != 1 || value[0] != byte(seq) {
					t.Errorf("record %d holds %x", seq, value)
				}
				got = append(got, SeqOf(key))
				return len(got) < most, nil
			})
		})
		if err != nil {
			t.Error(err)
		}
		return got
	}
	if got := scan(nil, 9); !slices.Equal(got, []Seq{1, 2, 300, 70_000}) {
		t.Errorf("scan = %d", got)
	}
	if got := scan(SpaceAudience.Seq(3), 1); !slices.Equal(got, []Seq{300}) {
		t.Errorf("scan from 3, one record = %d", got)
	}
	stop := errors.New("enough")
	err := j.View(func(v View) error {
		return v.Scan(SpaceAudience, nil, func(_, _ []byte) (bool, error) { return true, stop })
	})
	if !errors.Is(err, stop) {
		t.Errorf("scan that fails = %v", err)
	}
}

// everyWrite tries all that writes; each must fail as want says.
func everyWrite(t *testing.T, j *Journal, want error) {
	t.Helper()
	ctx := deadline(t)
	_, change := j.AppendChange(ctx, Change{Name: "ann"}, Update{})
	for name, err := range map[string]error{
		"Append":       j.Append(ctx, commit(9, 0x90, 1, 10)),
		"Advance":      j.Advance(ctx, 0x900),
		"AppendChange": change,
		"Apply":        j.Apply(ctx, Update{}, func(error) { t.Error("done is called after an error") }),
		"SetSource":    j.SetSource(ctx, Source{Slot: "other"}),
	} {
		if !errors.Is(err, want) {
			t.Errorf("%s = %v, want %v", name, err, want)
		}
	}
}

func TestRunWritesWhatIsQueuedThenTakesNothingMore(t *testing.T) {
	dir := t.TempDir()
	j, shut := open(t, dir)
	c := commit(1, 0x10, 5, 10)
	mustAppend(t, j, c)
	written := make(chan error, 1)
	if err := j.Apply(t.Context(), set("cursor", "5"), func(err error) { written <- err }); err != nil {
		t.Fatal(err)
	}
	if err := j.Run(ended()); err != nil {
		t.Fatalf("Run = %v", err)
	}
	if err := <-written; err != nil {
		t.Errorf("done(%v)", err)
	}
	everyWrite(t, j, ErrClosed)
	wantMessages(t, read(t, j, 0, 10), 0, c)
	shut()
	j, _ = open(t, dir)
	wantMessages(t, read(t, j, 0, 10), 0, c)
	if value, _ := get(t, j, "cursor"); value != "5" {
		t.Errorf("record = %q", value)
	}
}

// Writers that never pause must not keep a journal from ending.
func TestRunEndsWhileOthersGoOnWriting(t *testing.T) {
	j, _ := open(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	refused, n := make(chan error, 1), 0
	var again func(error)
	again = func(error) {
		if n++; n == 10 {
			cancel()
		}
		if n == 1000 {
			refused <- nil
			return
		}
		if err := j.Apply(t.Context(), set("cursor", fmt.Sprint(n)), again); err != nil {
			refused <- err
		}
	}
	if err := j.Apply(ctx, set("cursor", "0"), again); err != nil {
		t.Fatal(err)
	}
	if err := j.Run(ctx); err != nil {
		t.Errorf("Run = %v", err)
	}
	if err := <-refused; !errors.Is(err, ErrClosed) {
		t.Errorf("the journal took %d updates after its context had ended, then %v, want ErrClosed", n-10, err)
	}
}

// Who waits for what will not come, before or after the fault, learns of it.
func TestFailedWriteReachesEverybody(t *testing.T) {
	j, _ := open(t, t.TempDir())
	c := commit(1, 0x10, 1, 10)
	mustAppend(t, j, c)
	told := make(chan error, 1)
	if err := j.Apply(t.Context(), set("cursor", "1"), func(err error) { told <- err }); err != nil {
		t.Fatal(err)
	}
	if err := j.db.Close(); err != nil { // as a disk that takes nothing more
		t.Fatal(err)
	}
	waiters := make(chan error, 2)
	go func() { waiters <- j.WaitSynced(t.Context(), 1) }()
	go func() {
		_, err := j.Next(t.Context(), j.Head(), 1)
		waiters <- err
	}()
	failed := j.Run(t.Context())
	if failed == nil || errors.Is(failed, ErrClosed) {
		t.Fatalf("Run = %v, want the fault", failed)
	}
	if err := <-told; !errors.Is(err, failed) {
		t.Errorf("done(%v), want %v", err, failed)
	}
	for range cap(waiters) {
		if err := <-waiters; !errors.Is(err, failed) {
			t.Errorf("who waited got %v, want %v", err, failed)
		}
	}
	everyWrite(t, j, failed)
	if got := j.Confirmed(); got != 0 {
		t.Errorf("Confirmed() = %s after a failed write", got)
	}
	if err := j.WaitSynced(ended(), 1); err == nil {
		t.Error("entry 1 counts as synced after a failed write")
	}
}
