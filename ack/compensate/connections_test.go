package compensate

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"newswire/ack/compensate/channel"
	"newswire/ack/compensate/channel/sms"
	"newswire/ack/compensate/channel/wire"
	"newswire/ack/compensate/policy"
	"newswire/cdc/pgtest"
)

// slowly answers with success, when it is let.
type slowly struct {
	answer chan struct{} // one for each answer; closed: at once
	free   func()        // closes answer, once

	mu   sync.Mutex // guards seen
	seen int
}

func (s *slowly) ServeHTTP(http.ResponseWriter, *http.Request) {
	s.mu.Lock()
	s.seen++
	s.mu.Unlock()
	<-s.answer
}

func (s *slowly) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen
}

// slowSMS runs a service with two connections to a gateway that is asked for six
// texts, and waits until it has two of them.
func slowSMS(t *testing.T) (*ground, *slowly, *running, []record) {
	t.Helper()
	g := newGround(t)
	provider := &slowly{answer: make(chan struct{})}
	provider.free = sync.OnceFunc(func() { close(provider.answer) })
	server := httptest.NewServer(provider)
	t.Cleanup(server.Close)
	text, err := sms.New(sms.Config{
		URL: server.URL, AllowHTTP: true, Body: `{"text":{{json .Text}}}`, HTTP: wire.Config{Timeout: patience, Connections: 2},
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg := g.config(map[string]channel.Channel{"sms": text})
	cfg.Policy.Routes = []policy.Route{{Tags: []string{"*"}, Steps: [][]string{{"sms"}}}}
	s := g.run(cfg)
	t.Cleanup(provider.free) // before the service is stopped, which waits for its calls
	var records []record
	for n := range 6 {
		reader := fmt.Sprintf("u%d", n)
		if code, body := s.ask(t, "PUT", "/v1/devices", reader, map[string]any{"channel": "sms", "address": fmt.Sprintf("+43660123450%d", n)}); code != 200 {
			t.Fatalf("register: %d %v", code, body)
		}
		records = append(records, record{n: n + 1, reader: reader})
	}
	g.records(records...)
	g.until("the gateway has two", func() bool { return provider.asked() == 2 })
	return g, provider, s, records
}

func (g *ground) inState(state string) int {
	return pgtest.Value[int](g.db, `SELECT count(*)::int FROM newswire_compensate.deliveries WHERE state = $1`, state)
}

// A claim stands for a call under way: what a kill would leave in doubt, the
// gateway has.
func TestNoMoreIsClaimedThanThereAreConnections(t *testing.T) {
	t.Parallel()
	g, provider, _, records := slowSMS(t)
	for end := time.Now().Add(3 * lookEvery); time.Now().Before(end); {
		if n := g.inState("claimed") + g.inState("taken"); n > 2 {
			t.Fatalf("%d are claimed or taken, with two connections", n)
		}
	}
	provider.free()
	g.until("all settled", g.settled(len(records)))
	if n := g.inState("sent"); n != len(records) {
		t.Errorf("%d of %d were sent", n, len(records))
	}
}

func TestDrainingBeginsNoNewCall(t *testing.T) {
	t.Parallel()
	g, provider, s, records := slowSMS(t)
	ended := make(chan struct{})
	go func() { s.stop(); close(ended) }()
	g.until("it drains", func() bool { return !s.Ready() })
	provider.answer <- struct{}{}
	provider.answer <- struct{}{}
	<-ended
	if n := provider.asked(); n != 2 {
		t.Errorf("the gateway was asked %d times, want the two that were begun", n)
	}
	if sent, waiting := g.inState("sent"), g.inState("waiting"); sent != 2 || waiting != len(records)-2 {
		t.Errorf("%d sent, %d wait; want 2 and %d", sent, waiting, len(records)-2)
	}
}
