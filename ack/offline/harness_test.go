package offline

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/goleak"

	"newswire/ack"
	"newswire/ack/offline/kafkatest"
	"newswire/fanout/journal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const topic = "news-offline"

func seeded() kfake.Opt { return kfake.SeedTopics(4, topic, CancelledTopic(topic)) }

// running is a Sender in the course of a test.
type running struct {
	*Sender
	outbox *memOutbox
	reg    *prometheus.Registry
	logs   *logLines
	end    context.CancelFunc
	done   chan error // carries what Run returned, once
}

func config(addrs []string) Config { return Config{Brokers: addrs, Topic: topic, Source: "test"} }

func start(t *testing.T, cfg Config, prepare ...func(*Sender)) *running {
	t.Helper()
	r := &running{outbox: newOutbox(t), reg: prometheus.NewRegistry(), logs: new(logLines), done: make(chan error, 1)}
	var err error
	if r.Sender, err = New(cfg, r.outbox, slog.New(slog.NewTextHandler(r.logs, nil)), r.reg); err != nil {
		t.Fatal(err)
	}
	for _, p := range prepare {
		p(r.Sender)
	}
	var ctx context.Context
	ctx, r.end = context.WithCancel(context.Background())
	go func() { r.done <- r.Run(ctx); close(r.done) }()
	t.Cleanup(func() {
		r.end()
		if err := <-r.done; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	return r
}

type logLines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logLines) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), s)
}

// metric reads one value; label is the value of its only label, if it has one.
func (r *running) metric(t *testing.T, name, label string) float64 {
	t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() != name || label != "" && m.GetLabel()[0].GetValue() != label {
				continue
			}
			if m.GetHistogram() != nil {
				return float64(m.GetHistogram().GetSampleCount())
			}
			return m.GetCounter().GetValue()
		}
	}
	t.Fatalf("no metric %s{%s}", name, label)
	return 0
}

func handOver(reader string, n int) ack.HandOver {
	m := goldenMessage()
	m.ID.Ordinal = uint32(n)
	return ack.HandOver{Seq: journal.Seq(n), Name: reader, Message: m, Reason: ack.ReasonAckTimeout, Attempts: 1, FirstSent: m.Time}
}

// handOvers are n messages for each of readers, message by message.
func handOvers(n, readers int) (hs []ack.HandOver) {
	for i := range n {
		for r := range readers {
			hs = append(hs, handOver(fmt.Sprintf("u%d", r), i))
		}
	}
	return hs
}

// wantOrder checks that every pair arrived and that each reader's records came
// in order, repeats aside.
func wantOrder(t *testing.T, records []kafkatest.Record, want []ack.HandOver) {
	t.Helper()
	seen, last := make(map[string]bool), make(map[string]string)
	for _, r := range records {
		id := r.Headers["ce_id"]
		if seen[id] {
			continue
		}
		seen[id] = true
		if id < last[r.Key] {
			t.Errorf("reader %s got %s after %s", r.Key, id, last[r.Key])
		}
		last[r.Key] = id
	}
	for _, h := range want {
		if id := ack.CeID(h.Message.ID, h.Name); !seen[id] {
			t.Errorf("%s is missing", id)
		}
	}
	if len(seen) != len(want) {
		t.Errorf("%d different records, want %d", len(seen), len(want))
	}
}

// distinct is content once n different hand-overs were seen.
func distinct(n int) func([]kafkatest.Record) bool {
	return func(records []kafkatest.Record) bool {
		ids := make(map[string]bool)
		for _, r := range records {
			ids[r.Headers["ce_id"]] = true
		}
		return len(ids) >= n
	}
}

// at makes a broker listen on addr.
func at(addr string) kfake.Opt {
	return kfake.ListenFn(func(string, string) (net.Listener, error) { return net.Listen("tcp", addr) })
}

// freeAddr is an address that nothing listens on just now.
func freeAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline, tick := time.After(20*time.Second), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
