package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"newswire/cdc/pgtest"
	"newswire/cmd/newswire/internal/harness"
	"newswire/gateway/gatewaytest"
)

// leaving has an engine on its way out that waits for a reader who does not hear
// the goodbye, until that goes.
func leaving(t *testing.T) (e *harness.Engine, deaf *gatewaytest.Reader) {
	t.Helper()
	e = harness.Start(t, harness.Options{DB: pgtest.New(t), Drain: harness.Patience})
	deaf = e.Dial("deaf", gatewaytest.Options{Stalled: true})
	harness.Eventually(t, "the reader to be there", func() (bool, any) { n := e.Status().Sessions; return n == 1, n })
	e.Terminate()
	harness.Eventually(t, "the engine not to be ready", func() (bool, any) {
		why := e.Status().Reasons
		return slices.Contains(why, "gateway is draining"), why
	})
	t.Cleanup(deaf.Close)
	return e, deaf
}

// TestLeavingEngineAdmitsNobody asks an engine on its way out for everything: it
// says that it is not ready, and that readers shall come back elsewhere.
func TestLeavingEngineAdmitsNobody(t *testing.T) {
	t.Parallel()
	e, deaf := leaving(t)
	web := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for _, at := range []string{e.Gateway + "/v1/ws", e.Gateway + "/v1/poll?wait=20", e.Gateway + "/v1/subscriptions", e.Admin + "/readyz"} {
		request, err := http.NewRequest("GET", "http://"+at, nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{
			"Authorization": "Bearer " + e.Token("u1", nil), "Connection": "Upgrade", "Upgrade": "websocket",
			"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "bmV3c3dpcmUgYmVuY2hlcw==", "Sec-WebSocket-Protocol": "newswire.v1",
		} {
			request.Header.Set(name, value)
		}
		answer, err := web.Do(request)
		if err != nil {
			t.Errorf("%s: %v", at, err)
			continue
		}
		answer.Body.Close()
		told := answer.Header.Get("Retry-After") != "" || strings.HasPrefix(at, e.Admin)
		if answer.StatusCode != http.StatusServiceUnavailable || !told {
			t.Errorf("%s: %s, %v; want 503, and for readers when to come back", at, answer.Status, answer.Header)
		}
	}
	deaf.Close()
	e.AwaitExit()
}

// TestSecondSignalEndsAtOnce interrupts an engine that is on its way out.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	e, _ := leaving(t)
	e.Terminate()
	e.AwaitDeath(syscall.SIGTERM)
}

// TestGoodbyesAreSpread ends an engine with many readers, each of whom is told
// when to come back: not all at the same moment, nor for the same one.
func TestGoodbyesAreSpread(t *testing.T) {
	t.Parallel()
	const readers = 150 // within 300 ms: 500 a second
	e := harness.Start(t, harness.Options{DB: pgtest.New(t)})
	var all []*gatewaytest.Reader
	for n := range readers {
		all = append(all, e.Dial(fmt.Sprint("u", n), gatewaytest.Options{}))
	}
	for _, r := range all {
		r.Welcome()
	}
	e.Terminate()
	var times []time.Time
	waits := make(map[string]bool)
	for _, r := range all {
		if code, _ := r.Ended(); code != 1012 {
			t.Errorf("closed with %d, want 1012", code)
		}
		bye := r.Until("the goodbye", func(f gatewaytest.Frame) bool { return f.Type == "bye" })
		times = append(times, bye.At)
		_, wait, _ := strings.Cut(string(bye.Raw), `"retry_after_ms":`)
		waits[wait] = true
	}
	e.AwaitExit()
	slices.SortFunc(times, time.Time.Compare)
	if over := times[len(times)-1].Sub(times[0]); over < 200*time.Millisecond {
		t.Errorf("%d readers were sent away within %s", readers, over)
	}
	if len(waits) < readers/4 {
		t.Errorf("%d readers were given %d different times to wait", readers, len(waits))
	}
}

// TestReadersAreToldWhileTheDatabaseHangs ends an engine whose PostgreSQL does
// not answer any more: that keeps no reader from being told.
func TestReadersAreToldWhileTheDatabaseHangs(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	e := harness.Start(t, harness.Options{DB: db, Drain: time.Second})
	r := e.Dial("u1", gatewaytest.Options{Follow: []string{"tech"}})
	r.Welcome()
	walsender := pgtest.Value[int](db, "SELECT active_pid FROM pg_replication_slots WHERE slot_name = $1", db.Slot)
	signal := func(s syscall.Signal) {
		if err := syscall.Kill(walsender, s); err != nil {
			t.Errorf("signal the server's process for the slot: %v", err)
		}
	}
	signal(syscall.SIGSTOP)
	defer signal(syscall.SIGCONT)
	e.Terminate()
	if code, reason := r.Ended(); code != 1012 || reason != "draining" {
		t.Errorf("closed with %d %q, want 1012 draining", code, reason)
	}
	e.AwaitExit()
}
