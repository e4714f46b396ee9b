package gateway

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"newswire/gateway/gatewaytest"

	dto "github.com/prometheus/client_model/go"
)

// The readers of a benchmark live in a process of their own, so that the
// server's CPU and memory can be told from theirs. These variables make the
// test binary such a process.
const (
	crowdAt   = "NEWSWIRE_BENCH_CROWD_AT"
	crowdSize = "NEWSWIRE_BENCH_CROWD_SIZE"
)

// crowd connects readers who follow tech, throws away what they get, says
// "ready" once all are welcome, and stays until its input ends.
func crowd(address, size string) error {
	n, err := strconv.Atoi(size)
	if err != nil {
		return err
	}
	t := new(testing.B) // the crowd fails by itself
	for i := range n {
		reader := fmt.Sprint("reader", i)
		r, _, err := gatewaytest.TryDial(t, gatewaytest.Options{
			URL: address, Token: gatewaytest.Token(t, secret, reader, nil), Follow: []string{"tech"}, Silent: true, Stalled: true,
		})
		if err != nil {
			return fmt.Errorf("connect %s: %w", reader, err)
		}
		conn := r.Raw()
		if _, err := conn.Read(make([]byte, 4096)); err != nil {
			return fmt.Errorf("welcome of %s: %w", reader, err)
		}
		go func() {
			_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{conn}, make([]byte, 2048))
		}()
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// bringCrowd brings a crowd of n to the gateway and sends it home at the end.
func bringCrowd(b *testing.B, r *rig, n int) {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crowdAt+"="+r.url("ws", "/v1/ws"), crowdSize+"="+strconv.Itoa(n))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	home := sync.OnceFunc(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	b.Cleanup(home)
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || strings.TrimSpace(line) != "ready" {
		b.Fatalf("the crowd of %d says %q: %v", n, line, err)
	}
}

func benchRig(b *testing.B) *rig {
	return newRig(b, func(s *settings) { s.PingEvery, s.ack.Timeout = time.Hour, time.Hour })
}

// cpu is what this process has used.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkFanOut sends one message of 512 bytes to 1,000 readers at a time,
// with journal, shards and ledger at work. Reported is the process's CPU for
// each delivery.
func BenchmarkFanOut(b *testing.B) {
	const readers = 1000
	r := benchRig(b)
	bringCrowd(b, r, readers)
	data := fmt.Sprintf(`{"body":%q}`, strings.Repeat("x", 512-220))
	delivered := func() int {
		var m dto.Metric
		if err := r.pools.deps.m.deliveries.Write(&m); err != nil {
			b.Fatal(err)
		}
		return int(m.GetCounter().GetValue())
	}
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	before, want := cpu(b), 0
	for b.Loop() {
		r.commit(data, "tech")
		for want += readers; delivered() < want; {
			<-look.C
		}
	}
	b.ReportMetric(float64(cpu(b)-before)/float64(want), "cpu-ns/delivery")
	b.ReportMetric(float64(r.pools.Count()), "readers")
}

// BenchmarkIdleSession tells what a connection costs while nothing happens.
func BenchmarkIdleSession(b *testing.B) {
	const readers = 2000
	var sum float64
	rounds := 0
	for b.Loop() {
		r := benchRig(b)
		before := inUse()
		bringCrowd(b, r, readers)
		r.eventually("the welcomes are written", func() bool {
			for _, s := range r.pools.sessions() {
				s.mu.Lock()
				writing := s.writing
				s.mu.Unlock()
				if writing {
					return false
				}
			}
			return true
		})
		sum += float64(inUse()-before) / readers
		rounds++
	}
	b.ReportMetric(sum/float64(rounds), "B/session")
}

// inUse is the memory that lives in heap and stacks.
func inUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
