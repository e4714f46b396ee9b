package ack

import (
	"math/rand/v2"
	"testing"
	"time"

	"newswire/fanout/journal"

	"github.com/RoaringBitmap/roaring/v2"
)

// Whether sends to many readers are noted one by one or together, the account
// says the same, also when some are taken back.
func TestSendsToManyAreNotedAsOneByOne(t *testing.T) {
	t.Parallel()
	now := time.Now()
	audience := roaring.New()
	audience.AddRange(1, 300)
	account := func() *entry { return newEntry(7, journal.ID{Epoch: 1, LSN: 7}, now, audience) }
	for range 200 {
		single, many := account(), account()
		for step := range 12 {
			at := now.Add(time.Duration(step*rand.IntN(60)) * time.Millisecond)
			n := 1 + step/5
			var readers []journal.Reader
			for range 1 + rand.IntN(1+rand.IntN(200)) {
				readers = append(readers, journal.Reader(1+rand.IntN(300))) // some have two sessions
			}
			for _, r := range readers {
				single.record(r, n, at)
			}
			many.recordMany(readers, n, at)
			if step%3 == 2 {
				r := readers[rand.IntN(len(readers))]
				single.unrecord(r, n)
				many.unrecord(r, n)
			}
		}
		if !single.sent.Equals(many.sent) {
			t.Fatalf("sent to %d readers, noted together %d", single.sent.GetCardinality(), many.sent.GetCardinality())
		}
		for r := range journal.Reader(301) {
			n, first := single.attempts(r)
			if gotN, gotFirst := many.attempts(r); gotN != n || !gotFirst.Equal(first) {
				t.Fatalf("reader %d has attempt %d of %s, noted together attempt %d of %s", r, n, first, gotN, gotFirst)
			}
		}
	}
}
