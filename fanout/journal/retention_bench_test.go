package journal

import (
	"context"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"
)

// used gives what a directory's files have on the disk.
func used(b *testing.B, dir string) (bytes int64) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		b.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && e.Name() != ballastName {
			bytes += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
	}
	return bytes
}

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkRetention fills a journal with 2 GB, lets nine tenths of it expire
// while commits come in one by one, and tells what that has cost: processor,
// the longest wait of a commit for its sync, and what it has given back of the
// disk.
func BenchmarkRetention(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		const messages, size = 640_000, 3000
		dir := b.TempDir()
		j, end := start(b, dir)
		j.bundleFrom = 1 << 30 // as a site's commits come, one by one
		lsn := LSN(0)
		next := func() Commit {
			lsn++
			c := commit(1, lsn, 1, 0)
			c.Messages[0].Data = noise(uint64(lsn), size)
			return c
		}
		for range messages {
			mustAppend(b, j, next())
		}
		mustSync(b, j)
		time.Sleep(5 * time.Second) // compactions of the filling are not retention's
		full, began := used(b, dir), cpu(b)
		ctx, stop := context.WithCancel(context.Background())
		waits := make(chan []time.Duration)
		go func() {
			var all []time.Duration
			for ctx.Err() == nil {
				at := time.Now()
				mustAppend(b, j, next())
				mustSync(b, j)
				all = append(all, time.Since(at))
				time.Sleep(10 * time.Millisecond)
			}
			waits <- all
		}()
		b.StartTimer()
		at := time.Now()
		gone, err := j.Expire(context.Background(), time.Now(), messages/10*9, func(*Update, Seq, *Message) error { return nil })
		if err != nil || gone != messages/10*9 {
			b.Fatalf("%d have gone, %v", gone, err)
		}
		took := time.Since(at)
		b.StopTimer()
		left := used(b, dir)
		time.Sleep(20 * time.Second) // what compactions come to by themselves
		later := used(b, dir)
		stop()
		all := <-waits
		slices.Sort(all)
		b.ReportMetric(float64(full)/1e9, "GB-full")
		b.ReportMetric(float64(left)/1e9, "GB-after")
		b.ReportMetric(float64(later)/1e9, "GB-20s-later")
		b.ReportMetric(took.Seconds(), "s")
		b.ReportMetric((cpu(b) - began).Seconds(), "CPU-s")
		b.ReportMetric(all[len(all)*99/100].Seconds()*1000, "ms-p99")
		b.ReportMetric(all[len(all)-1].Seconds()*1000, "ms-longest")
		end()
		b.StartTimer()
	}
}
