package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"newswire/ack"
	"newswire/fanout"
	"newswire/fanout/journal"
	"newswire/gateway/gatewaytest"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if address := os.Getenv(crowdAt); address != "" { // a benchmark's readers
		if err := crowd(address, os.Getenv(crowdSize)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// patience is how long a test waits for what should come at once; far more
// than it takes on a busy machine.
const patience = 2 * time.Minute

var secret = []byte("a secret of the tests that is long enough for HS256")

// rig is the engine without its two ends: a journal, readers, a router, a
// ledger, pools and a gateway, wired as the engine wires them. publish stands
// in for PostgreSQL; what nobody acknowledges stays in the ledger.
type rig struct {
	t       testing.TB
	reg     *prometheus.Registry
	journal *journal.Journal
	readers *fanout.Readers
	ledger  *ack.Ledger
	pools   *Pools
	router  *fanout.Router
	gateway *Gateway
	web     *http.Client
	logs    *logbook
	close   func() error // ends the gateway and waits for it; may be called again

	mu  sync.Mutex // guards the rest, and the order of commits
	lsn journal.LSN
}

// settings are what a test wants otherwise.
type settings struct {
	Config
	writeTimeout time.Duration
	unpolled     bool
	ack          ack.Config
}

// courier lets the ledger ask the pools, as in the engine.
type courier struct{ *Pools }

func (c courier) Presence(of *roaring.Bitmap, lately time.Duration) ack.Presence {
	connected, changed := c.Pools.Presence(of, lately)
	return ack.Presence{Connected: connected, Changed: changed}
}

func newRig(t testing.TB, changes ...func(*settings)) *rig {
	t.Helper()
	cfg := settings{
		Config: Config{
			Listen: "127.0.0.1:0", Origins: []string{"https://news.example.com"},
			Auth:  Auth{Secret: secret},
			Drain: time.Second, AckTimeout: 30 * time.Second, PingEvery: 25 * time.Second,
		},
		ack: ack.Config{Timeout: 30 * time.Second, Retries: 2, Backoff: 2},
	}
	for _, change := range changes {
		change(&cfg)
	}
	r := &rig{t: t, reg: prometheus.NewRegistry(), lsn: 0x1000, logs: new(logbook)}
	log := slog.New(slog.NewTextHandler(r.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	r.journal, err = journal.Open(journal.Config{Dir: t.TempDir(), Unsynced: true}, log, r.reg)
	must(err)
	t.Cleanup(func() { must(r.journal.Close()) })
	r.readers, err = fanout.OpenReaders(fanout.InJournal(r.journal), nil)
	must(err)
	r.ledger, err = ack.New(cfg.ack, r.journal, r.readers, log, r.reg)
	must(err)
	backlog, err := ack.NewBacklog(r.journal)
	must(err)
	accounts := ack.NewAccounts(r.ledger, backlog)
	r.pools = NewPools(cfg.Config, accounts, r.journal, log, r.reg)
	if cfg.writeTimeout > 0 {
		r.pools.deps.writeTimeout = cfg.writeTimeout
	}
	r.router, err = fanout.NewRouter(64, r.journal, fanout.InJournal(r.journal), accounts, r.pools, log, r.reg)
	must(err)
	r.gateway, err = New(cfg.Config, r.pools, r.readers, r.router, log)
	must(err)
	r.gateway.unpolled = cfg.unpolled || strings.HasPrefix(t.Name(), "TestUnpolled/")
	r.start()
	return r
}

// start runs the hops, last first; they end in flow order.
func (r *rig) start() {
	ctx := context.Background()
	stop := func(end func() error) { r.t.Cleanup(func() { _ = end() }) }
	stop(r.background("journal", r.journal.Run, ctx))
	stop(r.background("pools", r.pools.Run, ctx))
	stop(r.background("ledger", func(ctx context.Context) error { return r.ledger.Run(ctx, courier{r.pools}) }, ctx))
	r.close = r.background("gateway", r.gateway.Run, ctx)
	stop(r.close)
	stop(r.background("router", r.router.Run, ctx))
	r.eventually("the gateway listens", func() bool { return r.gateway.Ready() == nil })
	transport := &http.Transport{}
	r.web = &http.Client{Transport: transport, Timeout: patience}
	r.t.Cleanup(transport.CloseIdleConnections)
}

// background runs a hop until the function is called, which waits for it.
func (r *rig) background(what string, run func(context.Context) error, ctx context.Context) func() error {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	return sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				r.t.Errorf("%s: %v", what, err)
			}
			return err
		case <-time.After(patience):
			r.t.Errorf("%s has not returned %s after its context ended", what, patience)
			return context.DeadlineExceeded
		}
	})
}

// publish commits n transactions of one article each and gives their ids.
func (r *rig) publish(n int, tags ...string) (ids []string) {
	r.t.Helper()
	for i := range n {
		ids = append(ids, r.commit(fmt.Sprintf(`{"n":%d}`, i), tags...))
	}
	return ids
}

// commit is one transaction with one article.
func (r *rig) commit(data string, tags ...string) string {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lsn += 0x10
	id := journal.ID{Epoch: 1, LSN: r.lsn}
	now := time.Now().UTC().Truncate(time.Microsecond)
	err := r.journal.Append(context.Background(), journal.Commit{
		Epoch: 1, LSN: r.lsn, End: r.lsn + 8, Time: now,
		Messages: []journal.Message{{
			ID: id, Action: journal.Publish, Tags: tags, Source: "public.articles",
			Key: json.RawMessage(`{"id":42}`), Time: now, Data: json.RawMessage(data),
		}},
	})
	if err != nil {
		r.t.Errorf("append: %v", err)
	}
	return id.String()
}

// routed waits until everything in the journal is with the sessions.
func (r *rig) routed() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := r.router.WaitRouted(ctx, r.journal.Head()); err != nil {
		r.t.Fatalf("wait for the router: %v", err)
	}
	for _, p := range r.pools.pools {
		reached := make(chan struct{})
		p.work <- func(*pool) { close(reached) }
		select {
		case <-reached:
		case <-ctx.Done():
			r.t.Fatal("a pool stands still")
		}
	}
}

func (r *rig) token(reader string, more gatewaytest.Claims) string {
	r.t.Helper()
	return gatewaytest.Token(r.t, secret, reader, more)
}

func (r *rig) url(scheme, path string) string {
	return scheme + "://" + r.gateway.Addr().String() + path
}

// dial connects a reader with its token and waits for nothing.
func (r *rig) dial(reader string, o gatewaytest.Options) *gatewaytest.Reader {
	r.t.Helper()
	o.URL = r.url("ws", "/v1/ws")
	if o.Token == "" {
		o.Token = r.token(reader, nil)
	}
	return gatewaytest.Dial(r.t, o)
}

// join is dial that waits for the welcome.
func (r *rig) join(reader string, o gatewaytest.Options) *gatewaytest.Reader {
	r.t.Helper()
	c := r.dial(reader, o)
	c.Welcome()
	return c
}

// reply is an HTTP answer that was read whole.
type reply struct {
	status int
	header http.Header
	body   string
}

func (a reply) json(t testing.TB, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.body), into); err != nil {
		t.Fatalf("answer %d %q: %v", a.status, a.body, err)
	}
}

// ask makes an HTTP request as a reader; "" sends no token.
func (r *rig) ask(reader, method, path, body string, header ...string) reply {
	r.t.Helper()
	req, err := http.NewRequest(method, r.url("http", path), strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if reader != "" {
		req.Header.Set("Authorization", "Bearer "+r.token(reader, nil))
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := r.web.Do(req)
	if err != nil {
		r.t.Errorf("%s %s: %v", method, path, err)
		return reply{}
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Errorf("%s %s: %v", method, path, err)
	}
	return reply{resp.StatusCode, resp.Header, string(raw)}
}

// unread gives the ids that a reader has not read.
func (r *rig) unread(reader string) (ids []string) {
	r.t.Helper()
	number, _, err := r.readers.Get(reader)
	if err != nil {
		r.t.Fatal(err)
	}
	unread, _, err := r.ledger.Unread(number, 0, 100_000)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, a := range unread {
		m, _, err := r.journal.Message(a.Seq)
		if err != nil {
			r.t.Fatal(err)
		}
		ids = append(ids, m.ID.String())
	}
	return ids
}

// wantUnread waits until exactly these are unread.
func (r *rig) wantUnread(reader string, ids []string) {
	r.t.Helper()
	var got []string
	r.tryEventually(func() bool { got = r.unread(reader); return slices.Equal(got, ids) })
	if !slices.Equal(got, ids) {
		r.t.Errorf("reader %s has not read %v, want %v", reader, got, ids)
	}
}

// metric gives the value of a counter or gauge whose labels hold want.
func (r *rig) metric(name, want string) (sum float64) {
	r.t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && strings.Contains(m.String(), want) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// pause gives a channel that is closed in a moment.
func (r *rig) pause(all *sync.WaitGroup) <-chan struct{} {
	over := make(chan struct{})
	all.Add(1)
	time.AfterFunc(30*time.Millisecond, func() { close(over); all.Done() })
	return over
}

// eventually waits for a state that no event announces.
func (r *rig) eventually(what string, reached func() bool) {
	r.t.Helper()
	if !r.tryEventually(reached) {
		r.t.Fatalf("waiting until %s: not so after %s", what, patience)
	}
}

func (r *rig) tryEventually(reached func() bool) bool {
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	deadline := time.After(patience / 2)
	for !reached() {
		select {
		case <-look.C:
		case <-deadline:
			return false
		}
	}
	return true
}

// logbook keeps what was logged.
type logbook struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (l *logbook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// endsWith checks a session's goodbye: the bye and the close carry the code.
func endsWith(t testing.TB, c *gatewaytest.Reader, e ending) {
	t.Helper()
	code, reason := c.Ended()
	if code != e.code || reason != e.reason {
		t.Errorf("session closed with %d %q, want %d %q", code, reason, e.code, e.reason)
	}
	frames := c.Frames()
	if len(frames) == 0 {
		t.Errorf("session closed with %d and no bye", code)
		return
	}
	last := frames[len(frames)-1]
	if last.Type != "bye" || string(last.Code) != fmt.Sprint(e.code) || last.Reason != e.reason {
		t.Errorf("the last frame before the close is %s, want a bye with %d %s", last.Raw, e.code, e.reason)
	}
}

// waits tells how many polls of a reader wait for news.
func (r *rig) waits(number journal.Reader) int {
	p := r.pools.of(number)
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.polls[number])
}

func bitmapOf(readers ...journal.Reader) *roaring.Bitmap {
	of := roaring.New()
	for _, r := range readers {
		of.Add(uint32(r))
	}
	return of
}
