package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"newswire/fanout/journal/fault"

	"pgregory.net/rapid"
)

func TestPrefixesCoverExactlyTheirPlaces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from := rapid.Uint64Range(0, 1<<20).Draw(t, "from") * page
		to := from + rapid.Uint64Range(0, 1<<12).Draw(t, "pages")*page
		bits := rapid.SampledFrom([]uint64{0, bundleSpool}).Draw(t, "bits")
		prefixes := cover(spaceSpools, bits, from, to)
		if most := 2 * 255 * 3; len(prefixes) > most {
			t.Fatalf("%d prefixes, want at most %d", len(prefixes), most)
		}
		for _, at := range []uint64{0, from - 1, from, from + 1, (from + to) / 2, to - 1, to, to + 1, 1 << 40} {
			covered := 0
			for _, p := range prefixes {
				if bytes.HasPrefix(spaceSpools.Seq(Seq(bits|at)), p) {
					covered++
				}
			}
			want := 0
			if at&bundleSpool == 0 && from <= at && at < to {
				want = 1
			}
			if covered != want {
				t.Fatalf("place %d is covered %d times by [%d, %d), want %d", at, covered, from, to, want)
			}
		}
	})
}

// before counts the records of entries that stand on disk before a place.
func before(t *testing.T, j *Journal, seq Seq) (n int) {
	t.Helper()
	err := j.View(func(v View) error {
		count := func(mask uint64) func([]byte) (bool, error) {
			return func(key []byte) (bool, error) {
				if at := binary.BigEndian.Uint64(key[1:]); at&^mask < uint64(seq) && (mask == 0 || at&mask != 0) {
					n++
				}
				return true, nil
			}
		}
		return errors.Join(v.Keys(spaceEntries, count(0)), v.Keys(spaceParts, count(0)), v.Keys(spaceSpools, count(bundleSpool)))
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestRetentionDropsSegments lets a journal of single commits, bundles and a
// spooled one expire piece by piece while others are appended. Commits wait, but
// none is refused; what has gone has left the disk, what is kept is all there,
// also after a crash before or after the drop.
func TestRetentionDropsSegments(t *testing.T) {
	const total = 150_000
	dir := t.TempDir()
	j, end := start(t, dir)
	lsn, n := LSN(0), 0
	add := func(c Commit) { mustAppend(t, j, c); n += len(c.Messages) }
	for n < total {
		lsn += 10
		switch {
		case n == 0 || lsn%500 == 0:
			c := commit(1, lsn, 3000, 10)
			appendSpooled(t, j, c, 1000)
			n += len(c.Messages)
		case lsn%70 == 0:
			add(commit(1, lsn, 1, 2*maxValue))
			mustSync(t, j) // so that it stands alone
		default:
			add(commit(1, lsn, 900, 10))
		}
	}
	mustSync(t, j)
	var copies []string
	undo := fault.Hook(func(point string) {
		if point == fault.Dropping || point == fault.Dropped {
			copies = append(copies, copyJournal(t, dir)) // Run stands still meanwhile
		}
	})
	t.Cleanup(undo)
	ctx, stop := context.WithCancel(t.Context())
	appended := make(chan error, 1)
	go func() {
		for lsn := lsn + 10; ; lsn += 10 {
			err := j.Append(ctx, commit(1, lsn, 1, 10))
			if err = errors.Join(err, ctx.Err()); err != nil {
				appended <- err
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	for _, through := range []Seq{10_000, 70_000, 140_000} {
		gone, err := j.Expire(deadline(t), time.Now(), through, func(*Update, Seq, *Message) error { return nil })
		if err != nil || gone == 0 || j.Oldest() != through+1 {
			t.Fatalf("Expire through %d: %d gone, oldest %d, %v", through, gone, j.Oldest(), err)
		}
	}
	stop()
	if err := <-appended; !errors.Is(err, context.Canceled) {
		t.Errorf("a commit was refused: %v", err)
	}
	mustSync(t, j)
	if n := before(t, j, 2*segment); n > 0 {
		t.Errorf("%d records of what has gone are on disk", n)
	}
	if len(j.goneSpools) > 0 || len(copies) < 4 {
		t.Errorf("spools %v are left, %d drops", j.goneSpools, len(copies)/2)
	}
	undo()
	head := j.Head()
	end()
	for i, dir := range append(copies, dir) {
		j, end := start(t, dir) // which finds every entry, or fails
		entries := read(t, j, j.Oldest()-1, 3000)
		if len(entries) < 3000 || entries[0].Seq != j.Oldest() {
			t.Errorf("copy %d: %d entries from %d on", i, len(entries), j.Oldest())
		}
		if _, err := j.Expire(deadline(t), time.Now(), 140_000, func(*Update, Seq, *Message) error { return nil }); err != nil {
			t.Error(err)
		}
		if n := before(t, j, 2*segment); n > 0 {
			t.Errorf("copy %d: %d records of what has gone are on disk after the next drop", i, n)
		}
		if i == len(copies) && j.Head() != head {
			t.Errorf("head %d, want %d", j.Head(), head)
		}
		end()
	}
}
