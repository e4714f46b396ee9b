package fanout

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"newswire/fanout/journal"

	"github.com/RoaringBitmap/roaring/v2"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var silent = slog.New(slog.NewTextHandler(io.Discard, nil))

// patience is how long a test waits for what should come at once.
const patience = 2 * time.Minute

// tester is what a test and a property have in common.
type tester interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

func deadline() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}

// background runs something until the function is called, which waits for it.
func background(t tester, what string, run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	return sync.OnceFunc(func() {
		t.Helper()
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(patience):
			t.Errorf("%s has not returned %s after its context ended", what, patience)
		}
	})
}

// recorder is the ledger and the pools: it notes what it gets.
type recorder struct {
	mu        sync.Mutex // guards the rest
	opened    []Delivery
	late      map[journal.Reader][]uint32
	delivered []Delivery
	forgotten []journal.Reader
}

func (r *recorder) Forget(reader journal.Reader) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgotten = append(r.forgotten, reader)
}

// Late and Routed make it a ledger.
func (r *recorder) Late(reader journal.Reader, seqs *roaring.Bitmap) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.late == nil {
		r.late = make(map[journal.Reader][]uint32)
	}
	r.late[reader] = append(r.late[reader], seqs.ToArray()...)
	return nil
}

func (r *recorder) Routed(*journal.Update) error { return nil }

func (r *recorder) Open(u *journal.Update, seq journal.Seq, m *journal.Message, audience *roaring.Bitmap) {
	u.Set(journal.SpaceAudience.Seq(seq), nil)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opened = append(r.opened, Delivery{seq, m, audience})
}

func (r *recorder) Deliver(d Delivery) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.delivered = append(r.delivered, d)
}

func (r *recorder) deliveries() []Delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.delivered)
}

// engine is a running journal with readers, and a router while one is started.
type engine struct {
	t       tester
	j       *journal.Journal
	readers *Readers
	seen    *recorder
	router  *Router
	lsn     journal.LSN

	stopJournal func()
	stopRouter  func()
}

func newEngine(t tester, dir string) *engine {
	t.Helper()
	j, err := journal.Open(journal.Config{Dir: dir}, silent, nil)
	if err != nil {
		t.Fatalf("open journal: %v", err)
	}
	e := &engine{t: t, j: j, seen: new(recorder), lsn: j.Confirmed(), stopRouter: func() {}}
	e.stopJournal = background(t, "journal", j.Run)
	if e.readers, err = OpenReaders(InJournal(j), nil); err != nil {
		t.Fatalf("OpenReaders: %v", err)
	}
	return e
}

// open is newEngine that ends with the test.
func open(t *testing.T, dir string) *engine {
	e := newEngine(t, dir)
	t.Cleanup(e.end)
	return e
}

// route starts a router on what the journal holds.
func (e *engine) route() {
	e.t.Helper()
	r, err := NewRouter(8, e.j, InJournal(e.j), e.seen, e.seen, silent, nil)
	if err != nil {
		e.t.Fatalf("NewRouter: %v", err)
	}
	e.router, e.stopRouter = r, background(e.t, "router", r.Run)
}

// end stops everything as the program does: the router, then the journal.
func (e *engine) end() {
	e.t.Helper()
	e.stopRouter()
	if e.stopJournal == nil {
		return
	}
	e.stopJournal()
	e.stopJournal = nil
	if err := e.j.Close(); err != nil {
		e.t.Errorf("close journal: %v", err)
	}
}

// publish commits one message and gives its place.
func (e *engine) publish(tags ...string) journal.Seq {
	e.t.Helper()
	ctx, cancel := deadline()
	defer cancel()
	e.lsn++
	m := journal.Message{
		ID: journal.ID{Epoch: 1, LSN: e.lsn}, Action: journal.Publish, Tags: tags,
		Source: "public.news", Key: fmt.Appendf(nil, `{"id":%d}`, e.lsn), Data: []byte("{}"), Time: time.UnixMicro(1).UTC(),
	}
	c := journal.Commit{Epoch: 1, LSN: e.lsn, End: e.lsn, Messages: []journal.Message{m}}
	if err := e.j.Append(ctx, c); err != nil {
		e.t.Fatalf("Append: %v", err)
	}
	return e.j.Head()
}

func (e *engine) edit(name string, edit Edit) Edited {
	e.t.Helper()
	ctx, cancel := deadline()
	defer cancel()
	done, err := e.readers.Edit(ctx, name, edit, 0)
	if err != nil {
		e.t.Fatalf("Edit(%q, %+v): %v", name, edit, err)
	}
	return done
}

func (e *engine) forget(name string) Edited {
	e.t.Helper()
	ctx, cancel := deadline()
	defer cancel()
	gone, err := e.readers.Forget(ctx, name)
	if err != nil {
		e.t.Fatalf("Forget(%q): %v", name, err)
	}
	return gone
}

// routed waits until the router has passed the journal's head.
func (e *engine) routed() {
	e.t.Helper()
	ctx, cancel := deadline()
	defer cancel()
	if err := e.router.WaitRouted(ctx, e.j.Head()); err != nil {
		e.t.Fatalf("WaitRouted(%d): %v", e.j.Head(), err)
	}
}

// synced waits until everything that is queued for the journal is durable, the
// routed watermark too.
func (e *engine) synced() {
	e.t.Helper()
	ctx, cancel := deadline()
	defer cancel()
	if err := e.j.ApplySync(ctx, journal.Update{}); err != nil {
		e.t.Fatalf("sync: %v", err)
	}
}

// audienceOf gives who got the message at seq.
func (e *engine) audienceOf(seq journal.Seq) []uint32 {
	e.t.Helper()
	e.routed()
	for _, d := range e.seen.deliveries() {
		if d.Seq == seq {
			return d.Audience.ToArray()
		}
	}
	e.t.Fatalf("message %d was not delivered", seq)
	return nil
}

// changes gives the changes that the journal holds, without their times.
func (e *engine) changes() (all []*journal.Change) {
	e.t.Helper()
	e.synced()
	entries, err := e.j.Range(0, e.j.Head())
	if err != nil {
		e.t.Fatalf("Range: %v", err)
	}
	for _, entry := range entries {
		if entry.Change != nil {
			c := *entry.Change
			c.Time = time.Time{}
			all = append(all, &c)
		}
	}
	return all
}
