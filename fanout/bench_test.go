package fanout

import (
	"testing"

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
	r := &Router{shards: all}
	m := &journal.Message{Tags: tags}
	for b.Loop() {
		jn := &join{entry: journal.Entry{Seq: 1, Message: m}}
		r.dispatch(jn)
		for _, s := range all {
			for len(s.tasks) > 0 {
				s.answer(<-s.tasks)
				jn.waiting.Done()
			}
		}
		jn.waiting.Wait()
		if got := jn.audience().GetCardinality(); got != readers-readers/10 {
			b.Fatalf("audience of %d, want %d", got, readers-readers/10)
		}
	}
}
