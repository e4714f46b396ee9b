package ack

import (
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"newswire/fanout/journal"

	"github.com/RoaringBitmap/roaring/v2"
)

// blocks is how many records of blocks the disk has on each level.
func (d *desk) blocks() (n [skipLevels]int) {
	d.t.Helper()
	d.flushed()
	d.must(d.j.View(func(v journal.View) error {
		return v.Keys(journal.SpaceSkips, func(key []byte) (bool, error) {
			n[key[1]-1]++
			return true, nil
		})
	}))
	return n
}

// Unread is right over hundreds of messages, settled in any order, read late,
// expired from the front, before and after restarts: what is passed over holds
// nothing of the reader's.
func TestUnreadAmongManyIsAsInTheModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		d := newDesk(t, dir, usual)
		defer func() { d.close() }()
		d.l.Arm()
		const readers = 6
		random := rand.New(rand.NewPCG(1, 2))
		unread := make(map[journal.Seq]map[uint32]bool)
		ids := make(map[journal.Seq]journal.ID)
		publish := func(n int) {
			var u journal.Update
			for range n {
				var audience []uint32
				for r := range uint32(readers) {
					if random.IntN(30) < int(r)*int(r) { // 0 gets nothing, 5 nearly all
						audience = append(audience, r)
					}
				}
				seq, id := d.place(&u, audience...)
				unread[seq], ids[seq] = make(map[uint32]bool), id
				for _, r := range audience {
					unread[seq][r] = true
				}
			}
			d.apply(u)
		}
		check := func() {
			t.Helper()
			for r := range uint32(readers) {
				var want, got []journal.Seq
				for seq := d.j.Oldest(); seq <= d.j.Head(); seq++ {
					if unread[seq][r] {
						want = append(want, seq)
					}
				}
				for after := journal.Seq(0); ; {
					seqs, through := d.unread(r, after, 7)
					if got = append(got, seqs...); len(seqs) < 7 {
						break
					}
					after = through
				}
				if !slices.Equal(got, want) {
					t.Fatalf("unread of %d: %v, want %v", r, got, want)
				}
			}
		}
		read := func(n int) {
			for range n {
				seq := d.j.Oldest() + journal.Seq(random.IntN(int(d.j.Head()-d.j.Oldest())))
				for r := range unread[seq] {
					d.must(d.l.Read(journal.Reader(r), []journal.Seq{seq}))
					delete(unread[seq], r)
				}
			}
			d.drain()
		}
		publish(300)
		check()
		for round := range 6 {
			publish(200)
			read(60)
			d.fall()
			if round%2 == 0 { // some stay with the sender for long, and settle out of order
				overs, _ := d.next(500)
				handed := make([]bool, len(overs))
				for i := range handed {
					handed[i] = random.IntN(4) > 0
				}
				d.settle(handed, nil)
			} else {
				d.drain()
			}
			d.flushed()
			check()
			if round%3 == 1 {
				d.l.mu.Lock()
				clear(d.l.floors) // as of a reader who was not here for long
				d.l.mu.Unlock()
				d = d.restart(dir)
				d.l.Arm()
				check()
			}
		}
		d.fall()
		d.drain()
		if n, want := d.blocks(), int(d.j.Head()>>4); n[0] < want-1 || n[1] < want/16-1 {
			t.Errorf("records of %v blocks, want those of %d messages", n, d.j.Head())
		}
		time.Sleep(time.Hour)
		publish(40)
		if gone, err := d.l.Expire(t.Context(), 30*time.Minute); err != nil || gone < 1000 {
			t.Fatalf("Expire = %d, %v", gone, err)
		}
		check()
		if n := d.blocks(); n[0] > 4 {
			t.Errorf("records of %v blocks stay", n)
		}
		d = d.restart(dir)
		check()
	})
}

// The records of the higher blocks are made up for at a start that comes before
// they were written.
func TestBlocksAreCompletedAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		d := newDesk(t, dir, usual)
		defer func() { d.close() }()
		d.l.Arm()
		for range 40 {
			var u journal.Update
			for range 16 {
				d.place(&u, 1)
			}
			d.apply(u)
		}
		d.fall()
		d.drain()
		want := d.blocks()
		if want[0] < 39 || want[1] != 2 {
			t.Fatalf("records of %v blocks", want)
		}
		var u journal.Update
		for _, b := range []block{{1, 3}, {2, 0}, {2, 1}} {
			u.Delete(b.key())
		}
		d.must(d.j.ApplySync(t.Context(), u))
		d = d.restart(dir)
		d.l.Arm()
		if got := d.blocks(); got != want {
			t.Errorf("records of %v blocks after a restart, want %v", got, want)
		}
	})
}

// An account with more bytes than one update takes is written in several, and
// found whole again.
func TestAccountOfAMillionReadersIsWrittenInPieces(t *testing.T) {
	if testing.Short() {
		t.Skip("a million readers")
	}
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		d := newDesk(t, dir, usual)
		defer func() { d.close() }()
		audience := roaring.New()
		audience.AddRange(1, 1_000_001)
		seq, _ := d.publish(audience.ToArray()...)
		d.l.mu.Lock()
		e := d.l.entries[seq]
		for n := range 3 {
			for part := range uint64(150) { // each 150th reader, as a slow machine would write them
				at := e.opened.Add(time.Duration(n)*time.Minute + time.Duration(part)*2*sendBucket)
				m := roaring.New()
				for r := part + 1; r <= 1_000_000; r += 150 {
					m.Add(uint32(r))
				}
				e.serial++
				e.sends = append(e.sends, send{n: n + 1, at: at, readers: m, serial: e.serial, dirty: true})
				e.sent.Or(m)
			}
		}
		d.l.dirtiedLocked(e)
		d.l.mu.Unlock()
		d.flushed()
		d.l.mu.Lock()
		if e.dirty || e.listed {
			t.Error("the account is not written")
		}
		d.l.mu.Unlock()
		want := e
		d = d.restart(dir)
		d.l.mu.Lock()
		defer d.l.mu.Unlock()
		got, err := d.l.entryLocked(seq)
		d.must(err)
		got.opened = want.opened
		if len(got.sends) != 450 || !got.sent.Equals(audience) || got.left != want.left {
			t.Errorf("%d sends to %d readers, %d left", len(got.sends), got.sent.GetCardinality(), got.left)
		}
	})
}
