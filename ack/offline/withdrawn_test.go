package offline

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"newswire/ack"
	"newswire/ack/offline/kafkatest"
	"newswire/fanout/journal"
)

// nobodyHere is the courier of a site whose readers are all away.
type nobodyHere struct{}

func (nobodyHere) Presence(*roaring.Bitmap, time.Duration) ack.Presence {
	return ack.Presence{Connected: roaring.New()}
}

func (nobodyHere) Resend(journal.Seq, int, *roaring.Bitmap) {}

func (nobodyHere) Name(r journal.Reader) (string, bool, error) {
	return fmt.Sprintf("u%d", r), true, nil
}

// newsroom is a ledger with its journal and its sender; everybody is away.
type newsroom struct {
	t      *testing.T
	j      *journal.Journal
	ledger *ack.Ledger
	stops  []func()
}

func openNewsroom(t *testing.T, dir string, addrs []string) *newsroom {
	t.Helper()
	n := &newsroom{t: t}
	var err error
	if n.j, err = journal.Open(journal.Config{Dir: dir}, slog.New(slog.DiscardHandler), nil); err != nil {
		t.Fatal(err)
	}
	cfg := ack.Config{Timeout: 300 * time.Millisecond, Retries: 1, Backoff: 1}
	if n.ledger, err = ack.New(cfg, n.j, nobodyHere{}, slog.New(slog.DiscardHandler), nil); err != nil {
		t.Fatal(err)
	}
	sender, err := New(config(addrs), n.ledger, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	n.run(n.j.Run)
	n.run(func(ctx context.Context) error { return n.ledger.Run(ctx, nobodyHere{}) })
	n.run(sender.Run)
	n.ledger.Arm()
	return n
}

func (n *newsroom) run(run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	n.stops = append([]func(){func() {
		cancel()
		if err := <-done; err != nil {
			n.t.Errorf("Run = %v", err)
		}
	}}, n.stops...)
}

func (n *newsroom) close() {
	for _, stop := range n.stops {
		stop()
	}
	if err := n.j.Close(); err != nil {
		n.t.Error(err)
	}
}

// commit routes a message of a row to readers, as the router does.
func (n *newsroom) commit(lsn journal.LSN, action journal.Action, key string, readers ...uint32) journal.ID {
	n.t.Helper()
	m := *goldenMessage()
	m.ID, m.Action, m.Key = journal.ID{Epoch: 1, LSN: lsn}, action, []byte(key)
	c := journal.Commit{Epoch: 1, LSN: lsn, End: lsn, Messages: []journal.Message{m}}
	if err := n.j.Append(context.Background(), c); err != nil {
		n.t.Fatal(err)
	}
	var u journal.Update
	n.ledger.Open(&u, n.j.Head(), &c.Messages[0], roaring.BitmapOf(readers...))
	n.ledger.Routed(&u)
	if err := n.j.Apply(context.Background(), u, nil); err != nil {
		n.t.Fatal(err)
	}
	return m.ID
}

// produced notes the topic of every batch in the order in which the broker got
// it, and refuses those of some topics.
type produced struct {
	mu      sync.Mutex
	topics  []string
	refuses map[string]bool
}

func (p *produced) watch(k *kafkatest.Cluster) {
	k.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		k.KeepControl()
		p.mu.Lock()
		defer p.mu.Unlock()
		produce := req.(*kmsg.ProduceRequest)
		resp := produce.ResponseKind().(*kmsg.ProduceResponse)
		refused := false
		for _, of := range produce.Topics {
			p.topics = append(p.topics, of.Topic)
			answer := kmsg.NewProduceResponseTopic()
			answer.Topic = of.Topic
			for _, one := range of.Partitions {
				part := kmsg.NewProduceResponseTopicPartition()
				part.Partition, part.ErrorCode = one.Partition, kerr.NotEnoughReplicas.Code
				answer.Partitions = append(answer.Partitions, part)
			}
			resp.Topics = append(resp.Topics, answer)
			refused = refused || p.refuses[of.Topic]
		}
		return resp, nil, refused
	})
}

func (p *produced) refuse(topics ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuses = make(map[string]bool)
	for _, topic := range topics {
		p.refuses[topic] = true
	}
	p.topics = nil
}

// tried is how often a batch for a topic came since the last refuse.
func (p *produced) tried(topic string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, one := range p.topics {
		if one == topic {
			n++
		}
	}
	return n
}

// TestAWithdrawnArticleIsCancelledInKafkaBeforeItIsThere: its deadline falls
// after the retraction, while Kafka refuses one topic, the other, or the program
// starts again.
func TestAWithdrawnArticleIsCancelledInKafkaBeforeItIsThere(t *testing.T) {
	k := kafkatest.New(t, kfake.SeedTopics(1, topic, CancelledTopic(topic)))
	p := new(produced)
	p.refuse(CancelledTopic(topic))
	p.watch(k)
	dir := t.TempDir()
	n := openNewsroom(t, dir, k.Addrs)
	defer func() { n.close() }()
	want := make(map[string]bool) // ce_id: is it withdrawn?
	kept := n.commit(1, journal.Publish, `{"id":1}`, 9)
	want[ack.CeID(kept, "u9")] = false
	for i := range 3 {
		id := n.commit(journal.LSN(2*i+2), journal.Publish, `{"id":42}`, 1, 2, 3)
		n.commit(journal.LSN(2*i+3), journal.Retract, `{"id":42}`)
		for r := range 3 {
			want[ack.CeID(id, fmt.Sprintf("u%d", r+1))] = true
		}
	}
	eventually(t, "two refusals of the cancels", func() bool { return p.tried(CancelledTopic(topic)) >= 2 })
	if got := kafkatest.Collect(t, k.Addrs, topic, kafkatest.Count(1)); len(got) != 1 || got[0].Key != "u9" {
		t.Fatalf("%d records while the cancels are refused, the first for %s; want that of u9 alone", len(got), got[0].Key)
	}
	n.close()
	n = openNewsroom(t, dir, k.Addrs)
	p.refuse(topic)
	eventually(t, "a refusal of the hand-overs", func() bool { return p.tried(topic) >= 2 })
	cancels := kafkatest.Collect(t, k.Addrs, CancelledTopic(topic), kafkatest.Count(9))
	n.close()
	p.refuse()
	n = openNewsroom(t, dir, k.Addrs)
	wantCancelledFirst(t, kafkatest.Collect(t, k.Addrs, topic, distinct(len(want))), cancels, want)
	if p.tried(CancelledTopic(topic)) == 0 {
		t.Error("the start that knows of no cancel has handed over without one")
	}
	eventually(t, "the end of all pairs", func() bool { return n.ledger.Counts().Pairs == 0 })
}

// wantCancelledFirst checks that what was withdrawn, and nothing else, was
// cancelled, before its hand-over was produced.
func wantCancelledFirst(t *testing.T, overs, cancels []kafkatest.Record, want map[string]bool) {
	t.Helper()
	at := make(map[string]time.Time)
	for _, c := range cancels {
		if at[c.Key].IsZero() {
			at[c.Key] = c.Time
		}
		if !want[c.Key] {
			t.Errorf("%s is cancelled and was not withdrawn", c.Key)
		}
	}
	for _, over := range overs {
		id := over.Headers["ce_id"]
		withdrawn, known := want[id]
		switch {
		case !known:
			t.Errorf("%s is handed over and was not published", id)
		case withdrawn && (at[id].IsZero() || over.Time.Before(at[id])):
			t.Errorf("%s is handed over at %v, its cancel is of %v", id, over.Time, at[id])
		}
	}
}
