package compensate

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"newswire/ack/compensate/channel"
	"newswire/ack/compensate/channel/sms"
	"newswire/ack/compensate/channel/wire"
	"newswire/ack/compensate/policy"
	"newswire/ack/offline/kafkatest"
)

// smsGateway accepts by default; a number's end says what goes wrong with it.
type smsGateway struct {
	mu       sync.Mutex // guards accepted and asked
	accepted map[string]int
	asked    map[string]int
}

func (s *smsGateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body struct{ To, ID string }
	if json.NewDecoder(r.Body).Decode(&body) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.asked[body.ID]++
	asked := s.asked[body.ID]
	accept := true
	switch {
	case strings.HasSuffix(body.To, "1") && asked == 1: // throttles
		accept = false
	case strings.HasSuffix(body.To, "4"): // refuses
		accept = false
	}
	if accept {
		s.accepted[body.ID]++
	}
	s.mu.Unlock()
	switch body.To[len(body.To)-1] {
	case '1':
		if asked == 1 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		}
	case '2': // says 500 though it has accepted
		w.WriteHeader(http.StatusInternalServerError)
	case '3': // accepts, and the answer is lost
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			conn.Close()
		}
	case '4':
		w.WriteHeader(http.StatusBadRequest)
	case '5': // accepts, and answers too late
		select {
		case <-r.Context().Done():
		case <-time.After(3 * time.Second):
		}
	}
}

func TestAnSMSGatewayWithEveryFaultSendsNothingTwice(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	provider := &smsGateway{accepted: make(map[string]int), asked: make(map[string]int)}
	server := httptest.NewServer(provider)
	defer server.Close()
	text, err := sms.New(sms.Config{
		URL: server.URL, AllowHTTP: true, Body: `{"to":{{json .To}},"text":{{json .Text}},"id":{{json .ID}}}`, HTTP: wire.Config{Timeout: time.Second},
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg := g.config(map[string]channel.Channel{"sms": text})
	cfg.Lanes = map[string]Lane{"sms": {Rest: 500 * time.Millisecond}}
	cfg.Policy.Routes = []policy.Route{{Tags: []string{"*"}, Steps: [][]string{{"sms"}}}}
	s := g.run(cfg)
	want := map[string]string{"0": "sent", "1": "sent", "2": "doubtful", "3": "doubtful", "4": "permanent", "5": "doubtful"}
	var records []record
	for end := range want {
		if code, body := s.ask(t, "PUT", "/v1/devices", "u"+end, map[string]any{"channel": "sms", "address": "+43660123450" + end}); code != 200 {
			t.Fatalf("register: %d %v", code, body)
		}
		for n := range 3 {
			records = append(records, record{n: len(records) + n + 1, reader: "u" + end, key: len(records) + 1})
		}
	}
	for i := range records {
		records[i].n = i + 1
	}
	g.records(records...)
	g.records(records...) // Kafka repeats them
	g.until("all settled", g.settled(len(records)))
	for _, r := range records {
		end := r.reader[1:]
		if got := g.states(r.ceID()); len(got) != 1 || !strings.HasPrefix(got[0], "sms "+want[end]) {
			t.Errorf("number …%s ended as %v, want %s", end, got, want[end])
		}
	}
	provider.mu.Lock()
	for id, n := range provider.accepted {
		if n > 1 {
			t.Errorf("%s was accepted %d times", id, n)
		}
	}
	provider.mu.Unlock()
	dead := kafkatest.Collect(t, g.brokers, testTopic+".dlq", kafkatest.Count(3))
	if slices.ContainsFunc(dead, func(r kafkatest.Record) bool { return r.Key != "u4" }) {
		t.Errorf("dead letters of others: %v", dead)
	}
	inDoubt := 0
	if err := s.EachDoubtful(t.Context(), func(Doubtful) error { inDoubt++; return nil }); err != nil || inDoubt != 9 {
		t.Errorf("%d are listed as in doubt (%v), want 9", inDoubt, err)
	}
}
