package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"newswire/cdc/pgtest"
	"newswire/cmd/newswire/internal/harness"
	"newswire/gateway/client"
	"newswire/gateway/gatewaytest"
)

// reading is a program that follows the news.
type reading struct {
	t *testing.T

	mu     sync.Mutex // guards the rest
	ids    []string   // as the handler got them
	states []client.StateChange
}

// read runs a client of the engine until the test ends.
func read(t *testing.T, e *harness.Engine, token func() string, follow ...string) (*client.Client, *reading) {
	t.Helper()
	r := &reading{t: t}
	c, err := client.New(client.Config{
		URL: "http://" + e.Gateway, Follow: follow,
		Token: func(context.Context) (string, error) { return token(), nil },
		OnMessage: func(_ context.Context, m *client.Message) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.ids = append(r.ids, m.ID)
			return nil
		},
		OnState: func(change client.StateChange) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.states = append(r.states, change)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the client's end: %v", err)
		}
	})
	return c, r
}

func (r *reading) got() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.ids)
}

// count tells how often a state was entered.
func (r *reading) count(state client.State) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, change := range r.states {
		if change.State == state {
			n++
		}
	}
	return n
}

func (r *reading) until(what string, look func() bool) {
	r.t.Helper()
	harness.Eventually(r.t, what, func() (bool, any) {
		ok := look()
		r.mu.Lock()
		defer r.mu.Unlock()
		return ok, fmt.Sprint(len(r.ids), r.states)
	})
}

// TestAProgramMissesNothing ends, kills and starts the engine under load, beside
// a program that handles each message once.
func TestAProgramMissesNothing(t *testing.T) {
	t.Parallel()
	const commits = 900
	db := pgtest.New(t)
	witness := harness.NewWitness(db)
	e := harness.Start(t, harness.Options{DB: db, Drain: time.Second})
	c, r := read(t, e, func() string { return e.Token("program", nil) }, "load")
	r.until("the client to be online", func() bool { return r.count(client.Online) == 1 })
	done := harness.StartLoad(t, db, harness.Load{Clients: 4, Commits: commits, Rate: commits / 3, Tag: "load"})
	r.until("some messages", func() bool { return len(r.got()) > commits/10 })
	e.Stop()
	e.Restart()
	r.until("more messages", func() bool { return len(r.got()) > commits/3 })
	e.Kill()
	e.Restart()
	done()
	r.until("all messages", func() bool { return len(r.got()) >= commits })
	e.AwaitSettled()
	ids := r.got()
	if last := slices.Max(ids); c.Cursor() != last {
		t.Errorf("the cursor stands at %s, and %s was handled", c.Cursor(), last)
	}
	slices.Sort(ids)
	if n := len(slices.Compact(slices.Clone(ids))); n != len(ids) || n != len(witness.Articles(t)) {
		t.Errorf("%d articles, %d of them different, were handled, want each of %d once", len(ids), n, len(witness.Articles(t)))
	}
	if n := r.count(client.Online); n < 3 {
		t.Errorf("online %d times, want at least 3", n)
	}
	if sets, err := c.Follow(t.Context(), "later"); err != nil || !slices.Equal(sets.Follow, []string{"later", "load"}) {
		t.Errorf("Follow gives %v, %v", sets, err)
	}
}

// TestATokenIsRefreshedInBand keeps a session beyond its first token's end.
func TestATokenIsRefreshedInBand(t *testing.T) {
	t.Parallel()
	const ttl = 14 * time.Second // replaced after the half
	db := pgtest.New(t)
	e := harness.Start(t, harness.Options{DB: db})
	first := time.Now().Add(ttl)
	_, r := read(t, e, func() string {
		return e.Token("program", gatewaytest.Claims{"exp": time.Now().Add(ttl).Unix()})
	}, "tech")
	r.until("the first token to expire", func() bool { return time.Now().After(first.Add(time.Second)) })
	article(db, "after it", "tech")
	r.until("the article", func() bool { return len(r.got()) == 1 })
	if n := r.count(client.Online); n != 1 {
		t.Errorf("connected %d times, want once", n)
	}
}

// TestTailPrintsWhatAReaderGets follows a gateway from elsewhere.
func TestTailPrintsWhatAReaderGets(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	e := harness.Start(t, harness.Options{DB: db})
	file := filepath.Join(e.Dir, "token")
	if err := os.WriteFile(file, []byte(e.Token("desk", nil)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := e.Background("tail", "--url", "http://"+e.Gateway, "--token-file", file, "--tag", "tech")
	harness.Eventually(t, "the reader to follow", func() (bool, any) {
		_, answer := e.HTTP("desk", "GET", "/v1/subscriptions", nil)
		return strings.Contains(answer, `"tech"`), answer
	})
	for n := range 4 {
		article(db, fmt.Sprint(n), []string{"tech", "sport"}[n%2])
	}
	harness.Eventually(t, "tail to print two articles", func() (bool, any) { return len(lines(t, b.Stdout())) == 2, b.Stdout() })
	for n, f := range lines(t, b.Stdout()) {
		if f.Data["title"] != fmt.Sprint(2*n) || f.Action != "publish" {
			t.Errorf("line %d is %s", n, f.Raw)
		}
	}
	e.AwaitSettled() // what is printed is acknowledged
	b.Interrupt()

	if err := os.WriteFile(file, []byte("of somebody else"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := e.Run("tail", "--url", "http://"+e.Gateway, "--token-file", file)
	if r.Code != exitFailed || !strings.Contains(r.Stderr, "4501 unauthorized; give a token that is valid there with --token-file") {
		t.Errorf("tail with a bad token: code %d, %s", r.Code, r.Stderr)
	}
	e.Stop()
	r = e.Run("tail", "--url", "http://"+e.Gateway, "--token-file", file)
	if r.Code != exitFailed || !strings.Contains(r.Stderr, "connection refused") || strings.Count(r.Stderr, "\n") != 1 {
		t.Errorf("tail of a stopped gateway: code %d, %s", r.Code, r.Stderr)
	}
}

func TestIDBefore(t *testing.T) {
	for id, want := range map[string]string{
		"0001000000000196a3b000000001": "0001000000000196a3b000000000",
		"0001000000000196a3b000000000": "0001000000000196a3afffffffff",
		"0001000000000000000000000000": "0000ffffffffffffffffffffffff",
		"0000000000000000000000000000": "",
		"":                             "",
	} {
		if got := idBefore(id); got != want {
			t.Errorf("before %q comes %q, want %q", id, got, want)
		}
	}
}
