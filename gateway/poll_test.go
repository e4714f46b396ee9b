package gateway

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"newswire/gateway/gatewaytest"
)

// poll is one poll's answer.
type poll struct {
	Messages []struct {
		ID      string
		Type    string
		Attempt int
		Replay  bool
		Tags    []string
		Data    json.RawMessage
	}
	Next string
}

func (p poll) ids() (ids []string) {
	for _, m := range p.Messages {
		ids = append(ids, m.ID)
	}
	return ids
}

// poll asks as a reader; a 204 gives an empty answer.
func (r *rig) poll(reader, query string) (p poll) {
	r.t.Helper()
	got := r.ask(reader, "GET", "/v1/poll"+query, "")
	switch got.status {
	case 200:
		got.json(r.t, &p)
		if len(p.Messages) == 0 || p.Next != p.Messages[len(p.Messages)-1].ID {
			r.t.Errorf("poll %s brought %d messages and next %q", query, len(p.Messages), p.Next)
		}
	case 204:
		if got.body != "" {
			r.t.Errorf("a 204 has a body: %s", got.body)
		}
	default:
		r.t.Errorf("poll %s: %d %s", query, got.status, got.body)
	}
	for _, want := range []string{"no-cache", "no-store"} {
		if !strings.Contains(got.header.Get("Cache-Control"), want) {
			r.t.Errorf("poll %s: Cache-Control is %q, want %s in it", query, got.header.Get("Cache-Control"), want)
		}
	}
	return p
}

// follow makes a reader who follows a tag and has no session.
func (r *rig) follow(reader, tag string) {
	r.t.Helper()
	if got := r.ask(reader, "PUT", "/v1/subscriptions", `{"follow":["`+tag+`"]}`); got.status != 200 {
		r.t.Fatalf("follow: %d %s", got.status, got.body)
	}
}

func TestPollBringsWhatIsUnreadAndMarksItRead(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.follow("u1", "tech")
	if p := r.poll("u1", ""); len(p.Messages) != 0 {
		t.Errorf("the first poll brought %v", p.ids())
	}
	ids := r.publish(250, "tech")
	r.publish(3, "sport")
	r.routed()
	var got []string
	for _, want := range []struct {
		query string
		n     int
	}{{"?limit=7", 7}, {"", 100}, {"?limit=1000", 143}, {"", 0}, {"?limit=1", 0}} {
		p := r.poll("u1", want.query)
		if len(p.Messages) != want.n {
			t.Errorf("poll %s brought %d messages, want %d", want.query, len(p.Messages), want.n)
		}
		for _, m := range p.Messages {
			if m.Type != "message" || m.Attempt != 1 || !m.Replay || !slices.Equal(m.Tags, []string{"tech"}) || len(m.Data) == 0 {
				t.Fatalf("a polled message is %+v", m)
			}
		}
		got = append(got, p.ids()...)
	}
	if !slices.Equal(got, ids) {
		t.Errorf("the polls brought %d messages, want %d once and in order", len(got), len(ids))
	}
	r.wantUnread("u1", nil)
	session := r.join("u1", gatewaytest.Options{})
	session.Sync()
	if n := len(session.Messages()); n != 0 {
		t.Errorf("a session gets %d messages that a poll has brought", n)
	}
}

func TestManualPollStaysUnreadUntilItIsAcked(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.follow("u1", "tech")
	ids := r.publish(5, "tech")
	r.routed()
	for range 2 {
		if p := r.poll("u1", "?ack=manual&limit=3"); !slices.Equal(p.ids(), ids[:3]) {
			t.Errorf("a manual poll brought %v, want %v again", p.ids(), ids[:3])
		}
	}
	p := r.poll("u1", "?ack=manual&limit=3")
	r.ask("u1", "POST", "/v1/ack", `{"upto":"`+p.Next+`"}`)
	if p := r.poll("u1", ""); !slices.Equal(p.ids(), ids[3:]) {
		t.Errorf("then a poll brought %v, want %v", p.ids(), ids[3:])
	}
}

func TestLongPollWakesOnNews(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.follow("u1", "tech")
	number, _, _ := r.readers.Get("u1")
	got := make(chan poll, 1)
	began := time.Now()
	go func() { got <- r.poll("u1", "?wait=25") }()
	r.eventually("it waits", func() bool { return r.waits(number) == 1 })
	r.publish(1, "sport") // not its news
	ids := r.publish(1, "tech")
	if p := <-got; !slices.Equal(p.ids(), ids) || time.Since(began) > 24*time.Second {
		t.Errorf("the poll brought %v after %s, want %v at once", p.ids(), time.Since(began), ids)
	}
	began = time.Now()
	if p := r.poll("u1", "?wait=0.5"); len(p.Messages) != 0 || time.Since(began) < 500*time.Millisecond {
		t.Errorf("a poll with nothing to bring gave %v after %s, want 204 after 500ms", p.ids(), time.Since(began))
	}
	connected, changed := r.pools.Presence(bitmapOf(number), 30*time.Second)
	if connected.Contains(uint32(number)) || changed[number].IsZero() {
		t.Errorf("after a poll the reader is connected: %v, changed %v; want away since the poll", connected, changed)
	}
}

// Polls of one reader at the same time share nothing and lose nothing.
func TestConcurrentPollsNeverShareAMessage(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.follow("u1", "tech")
	var mu sync.Mutex
	times := make(map[string]int)
	var polling sync.WaitGroup
	for i := range 8 {
		polling.Go(func() {
			for {
				mu.Lock()
				enough := len(times) == 200
				mu.Unlock()
				if enough {
					return
				}
				p := r.poll("u1", fmt.Sprintf("?limit=%d&wait=0.2", 1+i))
				mu.Lock()
				for _, id := range p.ids() {
					times[id]++
				}
				mu.Unlock()
			}
		})
	}
	ids := r.publish(200, "tech")
	polling.Wait()
	for _, id := range ids {
		if times[id] != 1 {
			t.Errorf("message %s came %d times", id, times[id])
		}
	}
}

// A poll whose client has gone before the answer marks nothing read.
func TestAnswerThatWasNotWrittenStaysUnread(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *settings) { s.writeTimeout = 500 * time.Millisecond })
	r.follow("u1", "tech")
	number, _, _ := r.readers.Get("u1")
	ask := func(query string) net.Conn {
		conn, err := (&net.Dialer{}).Dial("tcp", r.gateway.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		fmt.Fprintf(conn, "GET /v1/poll%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", query, r.token("u1", nil))
		return conn
	}
	// It waits, and its client goes before the news comes.
	gone := ask("?wait=25")
	r.eventually("it waits", func() bool { return r.waits(number) == 1 })
	gone.Close()
	r.eventually("the server has noticed", func() bool { return r.waits(number) == 0 })
	ids := r.publish(2, "tech")
	r.routed()
	r.wantUnread("u1", ids)
	// It waits behind another poll of the reader, and its client goes.
	give, _ := r.gateway.polling.take(t.Context(), number)
	gone = ask("")
	r.eventually("it waits its turn", func() bool { return r.waits(number) == 1 })
	gone.Close()
	r.eventually("the poll is over", func() bool { return r.waits(number) == 0 })
	give()
	r.wantUnread("u1", ids)
	// Its client does not read, so the answer does not fit into the socket.
	large := fmt.Sprintf(`{"body":%q}`, strings.Repeat("x", 500<<10))
	for range 20 {
		ids = append(ids, r.commit(large, "tech"))
	}
	r.routed()
	stuck := ask("?limit=1000")
	if err := stuck.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	r.eventually("it is answered", func() bool { return r.waits(number) == 1 })
	r.eventually("it is given up", func() bool { return r.waits(number) == 0 })
	r.wantUnread("u1", ids)
}

// A poll that cannot write does not hold up other readers' polls.
func TestStuckPollDelaysNoOtherReader(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.follow("u1", "tech")
	number, _, _ := r.readers.Get("u1")
	give, _ := r.gateway.polling.take(t.Context(), number)
	defer give()
	began := time.Now()
	for i := range 300 { // more than there might be locks to share
		if p := r.poll(fmt.Sprint("other", i), ""); len(p.Messages) > 0 {
			t.Errorf("a new reader gets %v", p.ids())
		}
		if time.Since(began) > patience {
			t.Fatal("other readers wait for a poll that is stuck")
		}
	}
}

func TestPollQueries(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]pollRequest{
		"":                              {limit: 100},
		"limit=1":                       {limit: 1},
		"limit=1000&wait=25&ack=manual": {limit: 1000, wait: 25 * time.Second, manual: true},
		"wait=0.25&at=7":                {limit: 100, wait: 250 * time.Millisecond},
	} {
		got, err := parsePoll(httptest.NewRequest("GET", "/v1/poll?"+query, nil))
		if err != nil || got != want {
			t.Errorf("%q is %+v (%v), want %+v", query, got, err, want)
		}
	}
	for _, query := range []string{
		"limit=0", "limit=-1", "limit=1001", "limit=x", "limit=1e2", "limit=99999999999999999999",
		"wait=-1", "wait=25.1", "wait=x", "wait=NaN", "wait=Inf", "wait=-Inf", "wait=1e300", "wait=1h", "wait=%20",
		"ack=Manual", "ack=other", "ack=auto", "ack=", "ack=manual&ack=other",
	} {
		if got, err := parsePoll(httptest.NewRequest("GET", "/v1/poll?"+query, nil)); err == nil {
			t.Errorf("%q is taken as %+v", query, got)
		}
	}
}
