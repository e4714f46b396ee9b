package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestEntriesAreReadAtOnceAndConfirmedOnlyWhenSynced(t *testing.T) {
	j, _ := open(t, t.TempDir())
	c := commit(1, 0x10, 2, 10)
	mustAppend(t, j, c)
	wantMessages(t, read(t, j, 0, 10), 0, c)
	if m, ok, err := j.Message(2); !ok || err != nil || m.ID != c.Messages[1].ID {
		t.Errorf("Message(2) before the sync = %v, %v, %v", m, ok, err)
	}
	for _, seq := range []Seq{1, 2} {
		if err := j.WaitSynced(ended(), seq); !errors.Is(err, context.Canceled) {
			t.Errorf("WaitSynced(%d) before the sync = %v", seq, err)
		}
	}
	if got := j.Confirmed(); got != 0 {
		t.Errorf("Confirmed() = %s before the sync", got)
	}
	if durable, err := j.Range(0, 2); err != nil || len(durable) != 0 {
		t.Errorf("Range gave %d entries before the sync, %v", len(durable), err)
	}
	run(t, j)
	mustSync(t, j)
	if got := j.Confirmed(); got != c.End {
		t.Errorf("Confirmed() = %s after the sync, want %s", got, c.End)
	}
	durable, err := j.Range(0, 2)
	if err != nil {
		t.Fatal(err)
	}
	wantMessages(t, durable, 0, c)
}

// onDisk reads the position from the database, and that its last entry is there.
func onDisk(t *testing.T, j *Journal) (p position) {
	t.Helper()
	err := j.View(func(v View) error {
		value, ok, err := v.Get(keyPosition)
		if err != nil || !ok {
			return err
		}
		if p, err = decodePosition(value); err != nil || p.Head == 0 {
			return err
		}
		j.mu.Lock()
		xs := j.extents // of a commit that is on disk at least
		j.mu.Unlock()
		there := false
		if err := v.walk(xs, p.Head, p.Head, func(stored) (bool, error) { there = true; return false, nil }); err != nil || !there {
			t.Errorf("position says %d, entry there: %v, %v", p.Head, there, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return p
}

func TestConfirmedIsNeverAheadOfTheDisk(t *testing.T) {
	j, end := start(t, t.TempDir())
	appended := make(chan struct{})
	var watchers sync.WaitGroup
	for range 2 {
		watchers.Go(func() {
			for {
				confirmed, synced := j.Confirmed(), j.synced.At()
				if p := onDisk(t, j); p.Confirmed < confirmed || p.Head < synced {
					t.Errorf("confirmed %s, synced %d, but the disk has %+v", confirmed, synced, p)
					return
				}
				select {
				case <-appended:
					return
				default:
				}
			}
		})
	}
	for lsn := LSN(0x10); lsn < 0x4000; lsn += 0x10 {
		mustAppend(t, j, commit(1, lsn, int(lsn>>4)%4, 50))
		if err := j.Advance(t.Context(), lsn+9); err != nil {
			t.Fatal(err)
		}
	}
	mustAppend(t, j, commit(1, 0x4000, maxTxnOps/2+10, 1)) // more than one transaction
	mustSync(t, j)
	close(appended)
	watchers.Wait()
	if got := j.Confirmed(); got != 0x4008 {
		t.Errorf("Confirmed() = %s, want %s", got, LSN(0x4008))
	}
	end()
}

func TestConfirmedSurvivesAndOnlyRises(t *testing.T) {
	dir := t.TempDir()
	j, end := start(t, dir)
	if got := j.Confirmed(); got != 0 {
		t.Errorf("Confirmed() of an empty journal = %s", got)
	}
	mustAppend(t, j, commit(1, 0x10, 1, 10))
	for _, lsn := range []LSN{0x80, 0x40} {
		if err := j.Advance(t.Context(), lsn); err != nil {
			t.Fatal(err)
		}
	}
	mustAppend(t, j, commit(1, 0x20, 1, 10)) // ends before what was read
	end()
	if got := j.Confirmed(); got != 0x80 {
		t.Errorf("Confirmed() = %s, want 0/80", got)
	}
	j, end = start(t, dir)
	if got := j.Confirmed(); got != 0x80 {
		t.Errorf("Confirmed() after reopening = %s, want 0/80", got)
	}
	end()
}

func TestSourceSurvives(t *testing.T) {
	dir := t.TempDir()
	j, end := start(t, dir)
	if s, ok := j.Source(); ok {
		t.Errorf("Source() of an empty journal = %+v", s)
	}
	want := Source{SystemID: "7300000000000000001", Timeline: 3, Slot: "newswire", Epoch: 2, Filled: 0x40,
		Past: []Past{{Timeline: 1, Until: 0x80, Epoch: 1}, {Timeline: 2, Until: 0x90, Epoch: 1}}, Away: []string{"public.articles"}}
	if err := j.SetSource(deadline(t), want); err != nil {
		t.Fatal(err)
	}
	if s, ok := j.Source(); !ok || !s.Equal(want) {
		t.Errorf("Source() = %+v, %v", s, ok)
	}
	end()
	j, _ = open(t, dir)
	if s, ok := j.Source(); !ok || !s.Equal(want) {
		t.Errorf("Source() after reopening = %+v, %v", s, ok)
	}
}

// Positions of two histories cannot be compared. To report the old one's to the
// new one's slot would skip everything up to there.
func TestANewHistoryConfirmsNothingOfTheOldOne(t *testing.T) {
	dir := t.TempDir()
	j, end := start(t, dir)
	if err := j.SetSource(deadline(t), Source{SystemID: "1", Timeline: 1, Slot: "newswire", Epoch: 1}); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, j, commit(1, 0x16_00000000, 1, 10))
	mustSync(t, j)
	if err := j.Rebase(deadline(t), Source{SystemID: "2", Timeline: 1, Slot: "newswire", Epoch: 2}, 0); err != nil {
		t.Fatal(err)
	}
	if got := j.Confirmed(); got != 0 {
		t.Errorf("Confirmed() = %s, want 0/0: nothing of the new history was read", got)
	}
	end()
	j, end = start(t, dir)
	if got := j.Confirmed(); got != 0 {
		t.Errorf("Confirmed() after reopening = %s, want 0/0", got)
	}
	c := commit(2, 0x20, 1, 10)
	mustAppend(t, j, c)
	mustSync(t, j)
	if got := j.Confirmed(); got != c.End {
		t.Errorf("Confirmed() = %s, want %s", got, c.End)
	}
	if j.Head() != 2 {
		t.Errorf("head is %d, want 2: what the journal has stays", j.Head())
	}
	end()
}

func TestSecondOpenIsTold(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "when missing")
	_, shut := open(t, dir)
	for range 2 {
		if j, err := Open(Config{Dir: dir}, silent, nil); !errors.Is(err, ErrHeld) || !strings.Contains(err.Error(), fmt.Sprint("pid ", os.Getpid())) {
			t.Fatalf("second Open = %v, %v, want ErrHeld with the process", j, err)
		}
	}
	shut()
	open(t, dir)
}

func TestMetricsAreThereFromTheStart(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	j, err := Open(Config{Dir: t.TempDir()}, silent, reg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range families {
		names = append(names, f.GetName())
	}
	want := []string{"newswire_journal_append_seconds", "newswire_journal_bytes", "newswire_journal_disk_free_bytes", "newswire_journal_drop_seconds", "newswire_journal_intake_waits"}
	if !slices.Equal(names, want) {
		t.Errorf("metrics %q, want %q", names, want)
	}
	if taken := families[slices.Index(names, "newswire_journal_bytes")].GetMetric()[0].GetGauge().GetValue(); taken <= 0 || taken > 64<<20 {
		t.Errorf("an empty journal of a few files takes %v bytes", taken)
	}
}
