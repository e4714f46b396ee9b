package ack

import (
	"testing"

	"newswire/fanout/journal"

	"github.com/RoaringBitmap/roaring/v2"
)

// stocked gives a ledger with n messages that 1,000 readers were sent.
func stocked(b *testing.B, n int) (l *Ledger, ids []journal.ID) {
	b.Helper()
	d := &desk{t: b}
	d.load(b.TempDir(), usual)
	b.Cleanup(d.close)
	for i := range n {
		var u journal.Update
		id := idAt(journal.LSN(i + 1))
		seq := journal.Seq(i + 1)
		d.l.Open(&u, seq, &journal.Message{ID: id}, bitmapOf(1000))
		for r := range uint32(1000) {
			d.l.entries[seq].record(journal.Reader(r+1), 1, d.l.entries[seq].opened)
		}
		ids = append(ids, id)
	}
	return d.l, ids
}

// BenchmarkAck is 1,000 acknowledgements, ten in a frame, of 1,000 readers.
func BenchmarkAck(b *testing.B) {
	const messages, readers, frame = 100, 1000, 10
	l, ids := stocked(b, messages)
	call := 0
	for b.Loop() {
		if call%(readers*messages/frame) == 0 { // everything is acknowledged
			b.StopTimer()
			for _, e := range l.entries {
				e.read, e.left = roaring.New(), readers
			}
			b.StartTimer()
		}
		for range 1000 / frame {
			at := call / readers * frame % messages
			if err := l.Ack(journal.Reader(call%readers+1), ids[at:at+frame]); err != nil {
				b.Fatal(err)
			}
			call++
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(call*frame), "ns/ack")
}

// BenchmarkOpen100k is the account of a message for 100,000 readers.
func BenchmarkOpen100k(b *testing.B) {
	l, _ := stocked(b, 0)
	audience := roaring.New()
	for r := range uint32(200_000) {
		if r%2 == 0 || r%7 == 0 {
			audience.Add(r)
		}
	}
	seq := journal.Seq(0)
	for b.Loop() {
		var u journal.Update
		seq++
		l.Open(&u, seq, &journal.Message{ID: idAt(journal.LSN(seq))}, audience)
		if seq%300 == 0 { // what is unsettled at a time
			b.StopTimer()
			l.entries, l.ids, l.open, l.waits = make(map[journal.Seq]*entry), make(map[journal.ID]journal.Seq), nil, nil
			b.StartTimer()
		}
	}
}
