package journal

import (
	"context"
	"testing"
)

// BenchmarkAppend appends commits of one message as fast as the disk takes
// them, many to a sync; it ends when all are durable.
func BenchmarkAppend(b *testing.B) {
	j, _ := start(b, b.TempDir())
	commits := make([]Commit, b.N)
	for i := range commits {
		commits[i] = commit(1, LSN(i+1), 1, 1000)
	}
	b.ResetTimer()
	for i := range commits {
		if err := j.Append(context.Background(), commits[i]); err != nil {
			b.Fatal(err)
		}
	}
	if err := j.WaitSynced(context.Background(), j.Head()); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
}

// BenchmarkAppendAlone waits for each commit's sync before the next one: the
// time that one commit takes when there is nothing to share it with.
func BenchmarkAppendAlone(b *testing.B) {
	j, _ := start(b, b.TempDir())
	lsn := LSN(0)
	for b.Loop() {
		lsn++
		if err := j.Append(context.Background(), commit(1, lsn, 1, 1000)); err != nil {
			b.Fatal(err)
		}
		if err := j.WaitSynced(context.Background(), j.Head()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRange reads what was committed at once, 256 messages at a time, as
// who is behind does.
func BenchmarkRange(b *testing.B) {
	j, _ := start(b, b.TempDir())
	const messages, step = 200_000, 256
	mustAppend(b, j, commit(1, 1<<20, messages, 300))
	mustSync(b, j)
	read := 0
	b.ResetTimer()
	began := cpu(b)
	for n := 0; b.Loop(); n++ {
		after := Seq(n * step % (messages - step))
		entries, err := j.Range(after, after+step)
		if err != nil || len(entries) != step {
			b.Fatalf("%d entries behind %d: %v", len(entries), after, err)
		}
		read += step
	}
	b.ReportMetric(float64(cpu(b)-began)/float64(read), "cpu-ns/message")
}

func BenchmarkDecodeMessage(b *testing.B) {
	m := message(1, 0x16_B374D848, 0, 1000)
	record := recordOf(&m)
	b.SetBytes(int64(len(record)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decodeEntry(1, record); err != nil {
			b.Fatal(err)
		}
	}
}
