package journal

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// contents gives every record but the journal's name for itself.
func contents(t *testing.T, j *Journal) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := j.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.DefaultIteratorOptions)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			value, err := it.Item().ValueCopy(nil)
			if err != nil {
				return err
			}
			all[string(it.Item().Key())] = string(value)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	delete(all, string(keyIdentity))
	delete(all, string(keyDropped))
	return all
}

// wantMarked wants a journal's newest version to be one of a record that nothing
// deletes.
func wantMarked(t *testing.T, dir string) {
	t.Helper()
	db, err := badger.Open(badgerOptions(Config{Dir: dir}, silent))
	if err != nil {
		t.Fatal(err)
	}
	var version uint64
	err = db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(keyCommit)
		if err == nil {
			version = item.Version()
		}
		return err
	})
	if newest := db.MaxVersion(); version != newest {
		t.Errorf("the mark has version %d, the newest is %d", version, newest)
	}
	if err := errors.Join(err, db.Close()); err != nil {
		t.Error(err)
	}
}

// backUp adds a part to a backup.
func backUp(t *testing.T, j *Journal, file *bytes.Buffer) (b Backed) {
	t.Helper()
	scanned, err := ScanBackup(bytes.NewReader(file.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	var after Part
	if n := len(scanned.Parts); n > 0 {
		after = scanned.Parts[n-1]
	} else if err := BeginBackup(file); err != nil {
		t.Fatal(err)
	}
	if b, err = j.Backup(deadline(t), after, file); err != nil {
		t.Fatal(err)
	}
	return b
}

// change does some of everything that changes a journal.
func change(t *testing.T, j *Journal, lsn *LSN, dice *rand.Rand) {
	t.Helper()
	for range 20 {
		*lsn += 10
		switch dice.IntN(6) {
		case 0:
			appendSpooled(t, j, withRows(commit(1, *lsn, 40, 200), int(*lsn)), 10)
		case 1:
			mustAppend(t, j, commit(1, *lsn, 700, 100)) // a bundle
		case 2:
			c := commit(1, *lsn, 1, 0)
			c.Rows = []Row{{[]byte(fmt.Sprintf("row %d", dice.IntN(10))), nil}}
			mustAppend(t, j, c)
		case 3:
			if _, err := j.AppendChange(deadline(t), Change{Name: "u", Reader: 1, Follow: []string{"a"}}, set("reader", fmt.Sprint(*lsn))); err != nil {
				t.Fatal(err)
			}
		case 4:
			var u Update
			u.Delete([]byte("xk" + fmt.Sprint(dice.IntN(5))))
			u.Set([]byte("xk"+fmt.Sprint(dice.IntN(5))), []byte(fmt.Sprint(*lsn)))
			if err := j.Apply(deadline(t), u, nil); err != nil {
				t.Fatal(err)
			}
		case 5:
			c := commit(1, *lsn, 3, 300)
			c.Rows = []Row{{[]byte(fmt.Sprintf("row %d", dice.IntN(10))), []byte("state")}}
			mustAppend(t, j, c)
		}
	}
	mustSync(t, j)
}

// TestBackupGrowsByWhatIsNewAndRestoresExactly backs a journal up part by part
// while it changes, expires and restarts, and restores from each length of the
// backup what the journal then was.
func TestBackupGrowsByWhatIsNewAndRestoresExactly(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	j, end := start(t, dir)
	var file bytes.Buffer
	lsn := LSN(100)
	for part := range 4 {
		change(t, j, &lsn, dice)
		if part == 2 {
			cutoff := time.UnixMicro(1_700_000_000_000_000 + int64(lsn) - 150)
			if _, err := j.Expire(deadline(t), cutoff, j.Synced(), func(*Update, Seq, *Message) error { return nil }); err != nil {
				t.Fatal(err)
			}
		}
		if part == 1 {
			end()
			j, end = start(t, dir)
		}
		want := contents(t, j)
		b := backUp(t, j, &file)
		if int(b.Keys) != len(want) || part > 0 && (b.Values == 0 || b.Values >= b.Keys) {
			t.Errorf("part %d: %d keys, %d values of %d records", part+1, b.Keys, b.Values, len(want))
		}
		to := filepath.Join(t.TempDir(), "made")
		last, err := Restore(deadline(t), bytes.NewReader(file.Bytes()), to, silent)
		if err != nil {
			t.Fatal(err)
		}
		wantMarked(t, to)
		restored, shut := open(t, to)
		if got := contents(t, restored); !maps.Equal(got, want) {
			t.Errorf("part %d: %d records are restored, want %d as they were", part+1, len(got), len(want))
		}
		if restored.Head() != j.Head() || restored.Confirmed() != j.Confirmed() || last.Head != j.Head() || last.Confirmed != j.Confirmed().String() {
			t.Errorf("restored up to %d and %s, the backup says %+v, want %d and %s", restored.Head(), restored.Confirmed(), last, j.Head(), j.Confirmed())
		}
		if _, err := restored.Backup(deadline(t), last, new(bytes.Buffer)); !errors.Is(err, ErrOtherJournal) {
			t.Errorf("a restored journal continues the backup: %v", err)
		}
		if _, err := Restore(deadline(t), bytes.NewReader(file.Bytes()), to, silent); err == nil || !strings.Contains(err.Error(), "holds a journal: stop the engine and move that away") {
			t.Errorf("restored over a journal: %v", err)
		}
		shut()
	}
}

// TestBackupWhileTheJournalGrows holds what is restored to be one moment.
func TestBackupWhileTheJournalGrows(t *testing.T) {
	t.Parallel()
	j, _ := start(t, t.TempDir())
	mustAppend(t, j, commit(1, 10, 2000, 500))
	mustSync(t, j)
	done, grown := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(grown)
		for lsn := LSN(20); ; lsn += 10 {
			c := commit(1, lsn, 2, 100)
			c.Rows = []Row{{[]byte("row"), []byte(lsn.String())}}
			if j.Append(t.Context(), c) != nil {
				return
			}
			select {
			case <-done:
				return
			default:
			}
		}
	}()
	var file bytes.Buffer
	for range 3 {
		backUp(t, j, &file)
		before := j.Synced()
		await(t, "the journal to grow", func() bool { return j.Synced() > before+10 })
	}
	close(done)
	<-grown
	to := t.TempDir()
	last, err := Restore(deadline(t), bytes.NewReader(file.Bytes()), to, silent)
	if err != nil {
		t.Fatal(err)
	}
	restored, _ := start(t, to)
	entries := read(t, restored, 0, int(last.Head))
	if Seq(len(entries)) != last.Head || restored.Head() != last.Head {
		t.Fatalf("%d entries, head %d, want %d", len(entries), restored.Head(), last.Head)
	}
	newest := entries[len(entries)-1].Message.ID.LSN
	if state, _, err := restored.Row([]byte("row")); err != nil || newest > 10 && string(state) != newest.String() {
		t.Errorf("row state %q, %v; want that of the last commit, %s", state, err, newest)
	}
}

// TestDamagedBackupIsNeverRestored cuts a backup anywhere, and flips bytes: what
// is torn at the end is as if it had not been begun, all else is refused.
func TestDamagedBackupIsNeverRestored(t *testing.T) {
	t.Parallel()
	j, _ := start(t, t.TempDir())
	var file bytes.Buffer
	lsn := LSN(100)
	var ends []int
	for range 2 {
		change(t, j, &lsn, rand.New(rand.NewPCG(1, uint64(lsn))))
		backUp(t, j, &file)
		ends = append(ends, file.Len())
	}
	whole := file.Bytes()
	for at := range len(whole) {
		if at%97 != 0 && at > 200 && at < len(whole)-200 {
			continue
		}
		b, err := ScanBackup(bytes.NewReader(whole[:at]))
		want := 0
		for _, end := range ends {
			if at >= end {
				want++
			}
		}
		if begun := at == 0 || at >= len(backupMagic); (err == nil) != begun || err == nil && len(b.Parts) != want {
			t.Fatalf("cut at %d of %d: %d parts, %v; want %d", at, len(whole), len(b.Parts), err, want)
		}
		flipped := bytes.Clone(whole)
		flipped[at] ^= 0x10
		if b, err := ScanBackup(bytes.NewReader(flipped)); err == nil && len(b.Parts) == len(ends) {
			t.Fatalf("byte %d of %d is flipped, and nobody has noticed", at, len(whole))
		}
	}
	to := t.TempDir()
	if _, err := Restore(deadline(t), bytes.NewReader(whole[:ends[0]-1]), to, silent); !errors.Is(err, ErrBackup) {
		t.Errorf("a backup without a whole part: %v", err)
	}
	if left, err := os.ReadDir(to); err != nil || len(left) > 0 {
		t.Errorf("it has left %v, %v", left, err)
	}
}

func FuzzReadPart(f *testing.F) {
	var file bytes.Buffer
	p := &partWriter{w: &file}
	for _, err := range []error{p.header(Part{Journal: "j", Until: 1}), p.add([]byte("a"), nil, false), p.add([]byte("ab"), []byte("v"), true), p.end()} {
		if err != nil {
			f.Fatal(err)
		}
	}
	f.Add(append([]byte(backupMagic), file.Bytes()...))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if b, err := ScanBackup(bytes.NewReader(raw)); b.Size > int64(len(raw)) {
			t.Errorf("%d whole bytes of %d, %v", b.Size, len(raw), err)
		}
	})
}
