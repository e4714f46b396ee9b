package compensate

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"

	"newswire/ack/compensate/channel"
	"newswire/ack/compensate/policy"
	"newswire/ack/offline/kafkatest"
	"newswire/cdc/pgtest"
	"newswire/migrations"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(childSpec); spec != "" {
		os.Exit(beInstance(spec))
	}
	os.Exit(pgtest.Main(m))
}

// patience ends a wait that will not come true.
const patience = 2 * time.Minute

// phone is a channel whose provider the test plays.
type phone struct {
	props channel.Properties
	reply func(d channel.Device, n channel.Notification) channel.Result // nil: sent

	mu   sync.Mutex // guards the rest
	sent []call
}

type call struct {
	device channel.Device
	n      channel.Notification
	at     time.Time
}

func (p *phone) Send(_ context.Context, d channel.Device, n channel.Notification) channel.Result {
	p.mu.Lock()
	p.sent = append(p.sent, call{d, n, time.Now()})
	reply := p.reply
	p.mu.Unlock()
	if reply != nil {
		return reply(d, n)
	}
	return channel.Result{Outcome: channel.Sent, ProviderID: "p-" + n.CeID}
}

func (p *phone) Check(d channel.Device) error {
	if strings.HasPrefix(d.Address, "bad") {
		return fmt.Errorf("address %q is not a phone", d.Address)
	}
	return nil
}

func (p *phone) Properties() channel.Properties { return p.props }

func (p *phone) calls() []call {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]call(nil), p.sent...)
}

func (p *phone) answer(reply func(channel.Device, channel.Notification) channel.Result) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reply = reply
}

// ground is what instances stand on: a database with the tables, and a Kafka.
type ground struct {
	t       testing.TB
	db      *pgtest.DB
	brokers []string
	kafka   *kafkatest.Cluster
}

const testTopic = "news-offline"

// partitions is how many each topic has.
const partitions = 6

func newGround(t testing.TB) *ground {
	t.Helper()
	db := pgtest.New(t, pgtest.WithSchema(""), pgtest.WithPublication(""), pgtest.WithoutSlot())
	if _, err := migrations.Apply(t.Context(), db.SuperDSN, migrations.Compensate()); err != nil {
		t.Fatal(err)
	}
	k := kafkatest.New(t, kfake.BrokerConfigs(map[string]string{"group.min.session.timeout.ms": "1000"}), kfake.SeedTopics(partitions, testTopic, testTopic+"-cancelled", testTopic+".dlq"))
	return &ground{t: t, db: db, brokers: k.Addrs, kafka: k}
}

// record is a hand-over as the engine writes it.
type record struct {
	n      int // of the commit
	reader string
	action string
	key    int
	tags   []string
	title  string
	age    time.Duration
}

func (r record) id() string { return fmt.Sprintf("0001%016x%08x", 1000+r.n, 0) }

func (r record) message(t testing.TB) kafka.Message {
	t.Helper()
	if r.action == "" {
		r.action = "publish"
	}
	if r.key == 0 {
		r.key = r.n
	}
	if r.tags == nil {
		r.tags = []string{"tech"}
	}
	if r.title == "" {
		r.title = fmt.Sprintf("Title %d", r.n)
	}
	now := time.Now().Add(-r.age)
	value, err := json.Marshal(map[string]any{
		"id": r.id(), "reader": r.reader, "reason": "ack_timeout", "attempts": 3, "first_sent": now, "handed_over": now,
		"message": map[string]any{
			"type": "message", "id": r.id(), "action": r.action, "tags": r.tags, "source": "public.articles", "key": map[string]any{"id": r.key},
			"time": now, "data": map[string]any{"id": r.key, "title": r.title, "summary": "Summary", "url": fmt.Sprintf("https://news.example.com/%d", r.key)},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return kafka.Message{Topic: testTopic, Key: []byte(r.reader), Value: value,
		Headers: append(usual(r.ceID()), header("ce_source", "newswire/test"), header("ce_time", now.UTC().Format(time.RFC3339Nano)))}
}

func (r record) ceID() string { return r.id() + ":" + r.reader }

// produce writes messages as the engine does.
func (g *ground) produce(messages ...kafka.Message) {
	g.t.Helper()
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	w := &kafka.Writer{Addr: kafka.TCP(g.brokers...), Transport: transport, Balancer: &kafka.Hash{}, RequiredAcks: kafka.RequireAll,
		BatchTimeout: 5 * time.Millisecond, BatchSize: 1000}
	defer w.Close()
	if err := w.WriteMessages(g.t.Context(), messages...); err != nil {
		g.t.Fatal(err)
	}
}

func (g *ground) records(records ...record) {
	g.t.Helper()
	var messages []kafka.Message
	for _, r := range records {
		messages = append(messages, r.message(g.t))
	}
	g.produce(messages...)
}

func (g *ground) cancel(ceID, cause string) {
	g.t.Helper()
	value, _ := json.Marshal(map[string]string{"ce_id": ceID, "cause": cause})
	g.produce(kafka.Message{Topic: testTopic + "-cancelled", Key: []byte(ceID), Value: value})
}

// config is an instance's, which the test may change.
func (g *ground) config(channels map[string]channel.Channel) Config {
	return Config{
		Kafka: Kafka{Brokers: g.brokers, Topic: testTopic, Group: "newswire-compensate", Session: 2 * time.Second},
		DSN:   g.db.SuperDSN, Channels: channels, Listen: "127.0.0.1:0", Admin: "127.0.0.1:0",
		Verify: func(token string) (Caller, error) {
			if reader, ok := strings.CutPrefix(token, "backend"); ok {
				return Caller{Reader: reader, Backend: true}, nil
			}
			if token == "later" {
				return Caller{}, ErrUnavailable
			}
			if token == "" {
				return Caller{}, fmt.Errorf("token is missing")
			}
			return Caller{Reader: token}, nil
		},
		Lease: 2 * time.Second, Log: slog.New(slog.NewTextHandler(g.t.Output(), nil)),
	}
}

// instance is a service at work.
type running struct {
	*Service
	addrs Addresses
	stop  func() // ends it in good order
}

func (g *ground) run(cfg Config) *running {
	g.t.Helper()
	ready := make(chan Addresses, 1)
	cfg.OnReady = func(a Addresses) { ready <- a }
	s, err := New(cfg)
	if err != nil {
		g.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	r := &running{Service: s}
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			g.t.Errorf("the service ended with %v", err)
		}
		if err := s.Close(); err != nil {
			g.t.Errorf("close: %v", err)
		}
	})
	g.t.Cleanup(r.stop)
	select {
	case r.addrs = <-ready:
	case err := <-done:
		done <- err
		g.t.Fatalf("the service did not start: %v", err)
	}
	return r
}

// until waits for a condition.
func (g *ground) until(what string, holds func() bool) {
	g.t.Helper()
	deadline := time.Now().Add(patience)
	for !holds() {
		if time.Now().After(deadline) {
			g.t.Fatalf("in vain awaited: %s; group: %s; deliveries: %v; records: %v", what, g.group(),
				pgtest.Values[string](g.db, `SELECT concat_ws(' ', channel, state, reason, count(*)) FROM newswire_compensate.deliveries GROUP BY channel, state, reason`),
				pgtest.Values[string](g.db, `SELECT concat_ws(' ', COALESCE(outcome, 'open'), count(*)) FROM newswire_compensate.records GROUP BY outcome`))
		}
		timer := time.NewTimer(20 * time.Millisecond)
		<-timer.C
	}
}

// group tells who reads which partitions, and how far.
func (g *ground) group() string {
	group := g.kafka.GroupInfo("newswire-compensate")
	if group == nil {
		return "none"
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s in generation %d;", group.State, group.Epoch)
	for _, m := range group.Members {
		fmt.Fprintf(&text, " %s has %v;", m.MemberID, m.Assignment)
	}
	for topic, partitions := range group.Commits {
		for p, c := range partitions {
			end := int64(-1)
			if info := g.kafka.PartitionInfo(topic, p); info != nil {
				end = info.HighWatermark
			}
			fmt.Fprintf(&text, " %s/%d at %d of %d;", topic, p, c.Offset, end)
		}
	}
	return text.String()
}

// states are a record's deliveries, as "channel state reason".
func (g *ground) states(ceID string) []string {
	return pgtest.Values[string](g.db, `SELECT rtrim(concat_ws(' ', channel, state, reason)) FROM newswire_compensate.deliveries WHERE ce_id = $1 ORDER BY 1`, ceID)
}

// cancelled are the ids of what was taken back.
func (g *ground) cancelled() []string {
	return pgtest.Values[string](g.db, `SELECT ce_id FROM newswire_compensate.cancelled`)
}

func (g *ground) outcome(ceID string) string {
	return strings.Join(pgtest.Values[string](g.db, `SELECT COALESCE(outcome, 'open') FROM newswire_compensate.records WHERE ce_id = $1`, ceID), ",")
}

// settled tells that so many records have an outcome, and none is open.
func (g *ground) settled(n int) func() bool {
	return func() bool {
		return pgtest.Value[bool](g.db, fmt.Sprintf(`SELECT count(*) = %d AND count(*) FILTER (WHERE outcome IS NULL OR outcome = 'next') = 0
			FROM newswire_compensate.records`, n))
	}
}

// ask calls the devices API.
func (r *running) ask(t testing.TB, method, path, token string, body any) (int, map[string]any) {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+r.addrs.API+path, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	_ = json.Unmarshal(answer, &got) // 204 has no body
	return resp.StatusCode, got
}

// tells waits until the metrics have a line.
func (r *running) tells(g *ground, line string) {
	g.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	g.until("the metrics tell "+line, func() bool {
		resp, err := client.Get("http://" + r.addrs.Admin + "/metrics")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		return err == nil && strings.Contains(string(text), line+"\n")
	})
}

func one(name string, p *phone) map[string]channel.Channel {
	return map[string]channel.Channel{name: p}
}

func rules(name string, r policy.Channel) policy.Config {
	return policy.Config{Channels: map[string]policy.Channel{name: r}}
}
