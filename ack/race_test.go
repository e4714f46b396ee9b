package ack

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"newswire/fanout/journal"

	"github.com/RoaringBitmap/roaring/v2"
)

// Late acknowledgements race the hand-over, thousands of times and in every
// order: each pair ends in one state. Either Kafka never took it and nothing is
// cancelled, or it did, and then an acknowledgement is told to the compensation
// service.
func TestLateAckRacesTheHandOver(t *testing.T) {
	const rounds, readers = 200, 100
	d := newDesk(t, t.TempDir(), usual)
	defer func() { d.close() }()
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	cancelled := make(map[[2]uint64]int) // place, reader; owned by the sender
	ctx, stop := context.WithCancel(t.Context())
	var sender, ackers sync.WaitGroup
	sender.Go(func() {
		kafka := rand.New(rand.NewPCG(7, 7))
		for {
			overs, cancels, err := d.l.Next(ctx, 1+kafka.IntN(40))
			if err != nil {
				return
			}
			taken := func(n int) (oks []bool) {
				for range n {
					oks = append(oks, kafka.IntN(3) > 0)
				}
				return oks
			}
			handed, told := taken(len(overs)), taken(len(cancels))
			d.must(d.l.Settle(outcomes(handed), told))
			for i, c := range cancels {
				if told[i] {
					cancelled[[2]uint64{uint64(c.Seq), uint64(c.Reader)}]++
				}
			}
		}
	})
	acked := make(map[journal.Seq]*roaring.Bitmap)
	for range rounds {
		seq, id := d.publish(bitmapOf(readers).ToArray()...)
		order := random.Perm(readers)
		late := roaring.New()
		for _, r := range order {
			d.sent(uint32(r+1), 1, seq)
		}
		d.l.mu.Lock()
		e := d.l.entries[seq]
		d.l.giveUpLocked(e, ReasonAckTimeout, bitmapOf(readers), time.Now())
		d.l.mu.Unlock()
		for _, r := range order[:readers/2] {
			late.Add(uint32(r + 1))
		}
		acked[seq] = late
		ackers.Go(func() {
			d.must(d.j.WaitSynced(t.Context(), seq)) // nothing is handed over before
			for n, r := range order[:readers/2] {
				if n%8 == 0 {
					<-time.After(time.Duration(rand.IntN(1000)) * time.Microsecond)
				}
				d.ack(uint32(r+1), id)
			}
		})
	}
	ackers.Wait()
	deadline := time.Now().Add(2 * time.Minute)
	for busy := true; busy; {
		if time.Now().After(deadline) {
			t.Fatalf("not settled: %+v", d.l.Counts())
		}
		<-time.After(5 * time.Millisecond)
		d.l.mu.Lock()
		busy = d.l.pairs > 0 || len(d.l.cancels) > 0
		d.l.mu.Unlock()
	}
	stop()
	sender.Wait()
	d.addsUp()
	if err := d.l.Flushed(t.Context()); err != nil {
		t.Fatal(err)
	}
	won, lost := 0, 0
	for seq, late := range acked {
		e := readBack(d, seq)
		for r := range uint32(readers) {
			r++
			n := cancelled[[2]uint64{uint64(e.seq), uint64(r)}]
			read, handed := e.read.Contains(r), e.handed.Contains(r)
			switch {
			case read != late.Contains(r), !read && !handed:
				t.Fatalf("message %d, reader %d: read %t, handed over %t", e.seq, r, read, handed)
			case read && handed && n == 0, (!read || !handed) && n > 0, n > 1:
				t.Fatalf("message %d, reader %d: read %t, handed over %t, cancelled %d times", e.seq, r, read, handed, n)
			case read && handed:
				lost++
			case read:
				won++
			}
		}
	}
	if won == 0 || lost == 0 {
		t.Errorf("%d acknowledgements were in time, %d were late: there was no race", won, lost)
	}
	if r, err := Audit(t.Context(), d.j, time.Time{}); err != nil || !r.AddsUp || r.Messages != rounds || r.Pending > 0 {
		t.Errorf("audit: %+v, %v", r, err)
	}
	d.must(d.j.View(func(v journal.View) error {
		key, ok, err := v.Last(journal.SpaceCancels)
		if ok {
			t.Errorf("the record of cancel %x stays", key)
		}
		return err
	}))
}
