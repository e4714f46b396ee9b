package fanout

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"newswire/fanout/journal"
)

// BenchmarkAudience100k is a message with three tags, followed by 100,000
// readers between them and muted by some: the shards' answers and their union.
func BenchmarkAudience100k(b *testing.B) {
	const shards, readers = 64, 100_000
	var all []*shard
	for i := range shards {
		all = append(all, newShard(i, shards))
	}
	tags := []string{"tech", "ai", "art"}
	for n := range readers {
		c := &journal.Change{Reader: journal.Reader(n + 1), Follow: []string{tags[n%3]}}
		if n%10 == 0 {
			c.Mute = []string{tags[(n+1)%3]}
		}
		for _, s := range all {
			s.change(c)
		}
	}
	r := &Router{shards: all, out: make([][]task, shards)}
	m := &journal.Message{Tags: tags}
	for b.Loop() {
		jn := &join{entry: journal.Entry{Seq: 1, Message: m}}
		r.dispatch(jn)
		r.send()
		for _, s := range all {
			for len(s.tasks) > 0 {
				s.do(<-s.tasks)
			}
		}
		jn.waiting.Wait()
		if got := jn.audience().GetCardinality(); got != readers-readers/10 {
			b.Fatalf("audience of %d, want %d", got, readers-readers/10)
		}
	}
}

// ask1 gives the audience of a message, as ask and collect do, in one goroutine.
func (r *Router) ask1(m *journal.Message) (readers uint64) {
	jn := &join{entry: journal.Entry{Seq: 1, Message: m}}
	r.dispatch(jn)
	r.send()
	for _, s := range r.shards {
		for len(s.tasks) > 0 {
			s.do(<-s.tasks)
		}
	}
	return jn.audience().GetCardinality()
}

// cpu is what the process has used: a busy machine does not count.
func cpu() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		panic(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// BenchmarkIndexOfAMillion is the audience index of 1,000,000 readers who follow
// 20 of 50,000 tags each, some tags much more than others: its memory and the
// time to load it, a message for 100,000 of them, and a change of one reader's
// tags. (Of that, the journal's sync takes the most; it is not in here.)
func BenchmarkIndexOfAMillion(b *testing.B) {
	const shards, readers, tags, each = 64, 1_000_000, 50_000, 20
	var all []string
	for i := range tags {
		all = append(all, fmt.Sprintf("tag-%05d", i))
	}
	random := rand.New(rand.NewPCG(1, 2))
	popular := rand.NewZipf(random, 1.1, 50, tags-1)
	follows := make([][]string, readers)
	for i := range follows {
		for range each {
			follows[i] = append(follows[i], all[popular.Uint64()])
		}
		slices.Sort(follows[i])
		follows[i] = slices.Compact(follows[i])
	}
	inUse := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := inUse()
	r := &Router{out: make([][]task, shards)}
	for i := range shards {
		r.shards = append(r.shards, newShard(i, shards))
	}
	begun := cpu()
	for i, tags := range follows {
		r.applyAll(&journal.Change{Reader: journal.Reader(i + 1), Follow: tags})
	}
	took, memory := cpu()-begun, inUse()-before
	var m journal.Message // of as many tags as it takes
	for i := 0; i < tags && r.ask1(&m) < 100_000; i++ {
		m.Tags = append(m.Tags, all[i])
	}
	b.Run("audience", func(b *testing.B) {
		var n uint64
		for b.Loop() {
			n = r.ask1(&m)
		}
		b.ReportMetric(float64(n), "readers")
		b.ReportMetric(float64(memory)/(1<<20), "MB")
		b.ReportMetric(took.Seconds(), "CPU-s/load")
	})
	b.Run("change", func(b *testing.B) {
		i := 0
		for b.Loop() {
			n := random.IntN(readers)
			c := &journal.Change{Reader: journal.Reader(n + 1), Follow: all[i%tags : i%tags+1], Unfollow: follows[n][:1]}
			for i, concerned := range r.concerned(c) {
				if concerned {
					r.shards[i].change(c)
				}
			}
			i++
		}
	})
	runtime.KeepAlive(follows)
}
