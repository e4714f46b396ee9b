package ack

import (
	"context"
	"math/rand/v2"
	"runtime"
	"syscall"
	"testing"
	"time"

	"newswire/fanout/journal"

	"github.com/RoaringBitmap/roaring/v2"
)

// stocked gives a ledger with n messages that so many readers were sent, each
// in its turn within the time that pools need for it, and the bytes of memory
// that each pair of them takes.
func stocked(b *testing.B, n, readers int) (d *desk, ids []journal.ID, bytes float64) {
	b.Helper()
	d = &desk{t: b}
	d.load(b.TempDir(), usual)
	d.start("journal", d.j.Run)
	b.Cleanup(d.close)
	before := inUse() // with what the journal takes
	order := rand.New(rand.NewPCG(1, 2)).Perm(readers)
	for range n {
		var u journal.Update
		seq, id := d.place(&u, bitmapOf(readers).ToArray()...)
		e := d.l.entries[seq]
		e.audience.RunOptimize() // as the router gives it
		for i, r := range order {
			e.record(journal.Reader(r+1), 1, e.opened.Add(time.Duration(i)*(300*time.Millisecond)/time.Duration(readers)))
		}
		d.apply(u)
		ids = append(ids, id)
	}
	if pairs := float64(n * readers); pairs > 0 {
		bytes = float64(inUse()-before) / pairs
	}
	return d, ids, bytes
}

// BenchmarkAck is 1,000 acknowledgements, ten in a frame, of 1,000 readers.
func BenchmarkAck(b *testing.B) {
	const messages, readers, frame = 100, 1000, 10
	d, ids, _ := stocked(b, messages, readers)
	l, call := d.l, 0
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
	d, _, _ := stocked(b, 0, 0)
	audience := roaring.New()
	for r := range uint32(200_000) {
		if r%2 == 0 || r%7 == 0 {
			audience.Add(r)
		}
	}
	l, seq := d.l, journal.Seq(0)
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

// cpu is what the process has used: a busy machine does not count.
func cpu() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		panic(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

func inUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkUnsettled30M is 300 messages that 100,000 readers were sent and have
// not acknowledged: the memory that they take, acknowledgements among them with
// their records, and a start with all of it.
func BenchmarkUnsettled30M(b *testing.B) {
	const messages, readers = 300, 100_000
	d, ids, perPair := stocked(b, messages, readers)
	for _, e := range d.l.entries {
		d.l.dirtiedLocked(e)
	}
	if err := d.l.flush(true); err != nil {
		b.Fatal(err)
	}
	if err := d.j.ApplySync(context.Background(), journal.Update{}); err != nil {
		b.Fatal(err)
	}
	begun := cpu()
	again, err := New(usual, d.j, d, silent, nil)
	if err != nil || again.Counts().Pairs != messages*readers {
		b.Fatalf("a start with %+v, %v", again.Counts(), err)
	}
	load := cpu() - begun
	r, acks := 0, 0
	thousand := func() { // acknowledgements of 100 readers
		for range 100 {
			at := r / readers * 10 % messages
			if err := d.l.Ack(journal.Reader(r%readers+1), ids[at:at+10]); err != nil {
				b.Fatal(err)
			}
			r++
			acks += 10
		}
	}
	used := cpu()
	for b.Loop() {
		thousand()
	}
	b.ReportMetric(perPair, "B/pair")
	b.ReportMetric(load.Seconds(), "CPU-s/start")
	b.ReportMetric(float64((cpu()-used).Nanoseconds())/float64(acks), "CPU-ns/ack")
	acks, used = 0, cpu()
	for range 60 { // as Run writes them when 20,000 come in a second
		time.Sleep(flushAfter)
		thousand()
		if err := d.l.flush(true); err != nil {
			b.Fatal(err)
		}
	}
	if err := d.j.ApplySync(context.Background(), journal.Update{}); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64((cpu()-used).Nanoseconds())/float64(acks), "CPU-ns/ack-with-record")
}

// BenchmarkUnreadAmong100k is the first step of a reader who comes back after
// three days: what it has not read among 100,000 messages, each of which a few
// thousand others have not read either. "rare" has missed 20 of them, "few" one
// in 250, "all" everything, "none" nothing; nothing is known from before.
func BenchmarkUnreadAmong100k(b *testing.B) {
	const messages, others = 100_000, 2_000
	d := &desk{t: b}
	d.load(b.TempDir(), usual)
	d.start("journal", d.j.Run)
	b.Cleanup(d.close)
	const none, rare, few, all = others + 1, others + 2, others + 3, others + 4
	random := rand.New(rand.NewPCG(1, 2))
	var u journal.Update
	for seq := journal.Seq(1); seq <= messages; seq++ {
		audience := roaring.BitmapOf(all)
		for range others / 4 {
			audience.Add(uint32(random.IntN(others) + 1))
		}
		if seq%(messages/20) == 0 {
			audience.Add(rare)
		}
		if seq%250 == 0 {
			audience.Add(few)
		}
		e := newEntry(seq, idAt(journal.LSN(seq)), time.Now(), audience)
		e.handed, e.left = audience, 0
		storeAudience(&u, e)
		storeProgress(&u, e)
		if u.Full() {
			d.apply(u)
			u = journal.Update{}
		}
	}
	storeTotals(&u, keyOpened, opened{Through: messages})
	d.must(d.j.ApplySync(context.Background(), u))
	start := func() *Ledger {
		l, err := New(usual, d.j, d, silent, nil)
		d.must(err)
		return l
	}
	l := start()
	for len(l.skips.ready) > 0 && l.skips.ready[0].last() <= messages {
		d.must(l.sumUp(messages))
	}
	d.must(d.j.ApplySync(context.Background(), journal.Update{}))
	for name, r := range map[string]journal.Reader{"none": none, "rare": rare, "few": few, "all": all} {
		b.Run(name, func(b *testing.B) {
			begun := cpu()
			l := start()
			took := cpu() - begun
			for b.Loop() {
				clear(l.floors)
				if _, _, err := l.Unread(r, 0, 64); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(took.Seconds(), "CPU-s/start")
		})
	}
}
