package ack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"newswire/fanout/journal"

	"github.com/RoaringBitmap/roaring/v2"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var silent = slog.New(slog.NewTextHandler(io.Discard, nil))

// usual is the configuration that CONTRACT names: attempts at 0, 30 and 90 s,
// given up at 210 s.
var usual = Config{Timeout: 30 * time.Second, Retries: 2, Backoff: 2}

// tester is what a test and a property have in common.
type tester interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// retry is a Resend that the courier was asked for.
type retry struct {
	seq    journal.Seq
	n      int
	reader uint32
	at     time.Duration // since the desk was opened
}

// desk is a ledger on a journal, with a courier and readers' names. Its time
// is a bubble's.
type desk struct {
	t       tester
	j       *journal.Journal
	l       *Ledger
	began   time.Time
	stopped []func()

	mu      sync.Mutex // guards the rest
	here    map[uint32]time.Time
	left    map[uint32]time.Time
	mute    map[uint32]bool // connected, but nothing can be written
	gone    map[journal.Reader]bool
	nameErr error
	retries []retry
	stall   time.Duration // how long the courier takes, once
	lsn     journal.LSN

	action journal.Action // of what place commits; empty: publish
	key    string         // of its row; empty: always the same
}

func newDesk(t tester, dir string, cfg Config) *desk {
	t.Helper()
	d := &desk{
		t: t, began: time.Now(), here: make(map[uint32]time.Time), left: make(map[uint32]time.Time),
		mute: make(map[uint32]bool), gone: make(map[journal.Reader]bool),
	}
	d.load(dir, cfg)
	d.start("journal", d.j.Run)
	d.start("ledger", func(ctx context.Context) error { return d.l.Run(ctx, d) })
	return d
}

func (d *desk) load(dir string, cfg Config) {
	d.t.Helper()
	j, err := journal.Open(journal.Config{Dir: dir}, silent, nil)
	if err != nil {
		d.t.Fatalf("open journal: %v", err)
	}
	d.j, d.lsn = j, j.Confirmed()
	if d.l, err = New(cfg, j, d, silent, nil); err != nil {
		d.t.Fatalf("New: %v", err)
	}
}

// start runs something until close.
func (d *desk) start(what string, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	d.stopped = append(d.stopped, func() {
		d.t.Helper()
		cancel()
		if err := <-done; err != nil {
			d.t.Errorf("%s: %v", what, err)
		}
	})
}

// close ends the desk as the program does: the ledger, then the journal.
func (d *desk) close() {
	d.t.Helper()
	for _, stop := range slices.Backward(d.stopped) {
		stop()
	}
	d.stopped = nil
	if err := d.j.Close(); err != nil {
		d.t.Errorf("close journal: %v", err)
	}
}

// bubble runs a test of the usual ledger, armed, in a bubble of its own time.
func bubble(t *testing.T, test func(t *testing.T, d *desk)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, t.TempDir(), usual)
		d.l.Arm()
		defer func() { d.close() }()
		test(t, d)
	})
}

// restart ends the desk and opens it again; it is not armed.
func (d *desk) restart(dir string) *desk {
	d.t.Helper()
	d.close()
	again := newDesk(d.t, dir, d.l.cfg)
	again.began = d.began
	return again
}

// Name knows every reader but those that are gone.
func (d *desk) Name(r journal.Reader) (string, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return name(r), !d.gone[r], d.nameErr
}

func name(r journal.Reader) string { return fmt.Sprintf("reader-%d", r) }

// Presence tells what connect and leave made.
func (d *desk) Presence(of *roaring.Bitmap, lately time.Duration) Presence {
	d.mu.Lock()
	stall := d.stall
	d.stall = 0
	d.mu.Unlock()
	time.Sleep(stall)
	d.mu.Lock()
	defer d.mu.Unlock()
	p := Presence{Connected: roaring.New(), Changed: make(map[journal.Reader]time.Time)}
	for r, since := range d.here {
		if of.Contains(r) {
			p.Connected.Add(r)
			if time.Since(since) < lately {
				p.Changed[journal.Reader(r)] = since
			}
		}
	}
	for r, at := range d.left {
		if of.Contains(r) && time.Since(at) < lately {
			p.Changed[journal.Reader(r)] = at
		}
	}
	return p
}

// Resend writes to those who are connected and can be written to.
func (d *desk) Resend(seq journal.Seq, n int, readers *roaring.Bitmap) {
	for _, r := range readers.ToArray() {
		d.mu.Lock()
		_, here := d.here[r]
		writes := here && !d.mute[r]
		if writes {
			d.retries = append(d.retries, retry{seq, n, r, time.Since(d.began)})
		}
		d.mu.Unlock()
		if writes {
			d.sent(r, n, seq)
		}
	}
}

func (d *desk) retried() []retry {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.retries)
}

func (d *desk) connect(readers ...uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range readers {
		d.here[r] = time.Now()
		delete(d.left, r)
	}
}

func (d *desk) leave(readers ...uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range readers {
		delete(d.here, r)
		d.left[r] = time.Now()
	}
}

func idAt(lsn journal.LSN) journal.ID { return journal.ID{Epoch: 1, LSN: lsn} }

// place commits a message and opens its account, with its record in u.
func (d *desk) place(u *journal.Update, audience ...uint32) (journal.Seq, journal.ID) {
	d.t.Helper()
	d.lsn++
	id := idAt(d.lsn)
	m := journal.Message{
		ID: id, Action: cmp.Or(d.action, journal.Publish), Tags: []string{"tech"}, Source: "public.news",
		Key: []byte(cmp.Or(d.key, `{"id":1}`)), Data: []byte(`{"id":1}`), Time: time.Now().UTC(),
	}
	c := journal.Commit{Epoch: 1, LSN: d.lsn, End: d.lsn, Messages: []journal.Message{m}}
	if err := d.j.Append(context.Background(), c); err != nil {
		d.t.Fatalf("Append: %v", err)
	}
	seq := d.j.Head()
	d.l.Open(u, seq, &c.Messages[0], roaring.BitmapOf(audience...))
	d.l.Routed(u)
	return seq, id
}

// publish is place with the record queued, as the router does it.
func (d *desk) publish(audience ...uint32) (journal.Seq, journal.ID) {
	d.t.Helper()
	var u journal.Update
	seq, id := d.place(&u, audience...)
	d.apply(u)
	return seq, id
}

func (d *desk) apply(u journal.Update) {
	d.t.Helper()
	if err := d.j.Apply(context.Background(), u, nil); err != nil {
		d.t.Fatalf("Apply: %v", err)
	}
}

func (d *desk) sent(r uint32, n int, seqs ...journal.Seq) {
	d.t.Helper()
	d.must(d.l.Sent(journal.Reader(r), attempts(n, seqs)))
}

func (d *desk) unsent(r uint32, n int, seqs ...journal.Seq) {
	d.t.Helper()
	d.must(d.l.Unsent(journal.Reader(r), attempts(n, seqs)))
}

func attempts(n int, seqs []journal.Seq) (all []journal.Attempt) {
	for _, seq := range seqs {
		all = append(all, journal.Attempt{Seq: seq, N: n})
	}
	return all
}

func (d *desk) ack(r uint32, ids ...journal.ID) {
	d.t.Helper()
	d.must(d.l.Ack(journal.Reader(r), ids))
}

func (d *desk) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatalf("%v", err)
	}
}

// unread gives the places of what a reader has not read.
func (d *desk) unread(r uint32, after journal.Seq, limit int) (seqs []journal.Seq, through journal.Seq) {
	d.t.Helper()
	found, through, err := d.l.Unread(journal.Reader(r), after, limit)
	d.must(err)
	for _, a := range found {
		if !a.Replay {
			d.t.Errorf("unread %+v is no replay", a)
		}
		seqs = append(seqs, a.Seq)
	}
	return seqs, through
}

// flushed waits until what has changed is durable.
func (d *desk) flushed() {
	time.Sleep(2 * flushAfter)
	synctest.Wait()
}

// errNothing is why next ends when there is nothing.
var errNothing = errors.New("nothing to hand over")

// next is what the sender is given at once, or nothing.
func (d *desk) next(limit int) ([]HandOver, []Cancel) {
	d.t.Helper()
	ctx, cancel := context.WithTimeoutCause(context.Background(), time.Millisecond, errNothing)
	defer cancel()
	overs, cancels, err := d.l.Next(ctx, limit)
	if err != nil && !errors.Is(err, errNothing) {
		d.t.Fatalf("Next: %v", err)
	}
	return overs, cancels
}

// outcomes are those of a Kafka that says what it has and what it has not.
func outcomes(taken []bool) []Outcome {
	all := make([]Outcome, len(taken))
	for i, is := range taken {
		if all[i] = Refused; is {
			all[i] = Taken
		}
	}
	return all
}

func (d *desk) settle(handed, cancelled []bool) {
	d.t.Helper()
	d.must(d.l.Settle(outcomes(handed), cancelled))
}

// drain hands over all that there is.
func (d *desk) drain() (overs []HandOver, cancels []Cancel) {
	d.t.Helper()
	for {
		o, c := d.next(100)
		if len(o)+len(c) == 0 {
			return overs, cancels
		}
		d.settle(all(len(o)), all(len(c)))
		overs, cancels = append(overs, o...), append(cancels, c...)
	}
}

func all(n int) []bool { return slices.Repeat([]bool{true}, n) }

// wantCounts checks the state, and that the accounts add up.
func (d *desk) wantCounts(want Counts) {
	d.t.Helper()
	if got := d.l.Counts(); got != want {
		d.t.Errorf("counts %+v, want %+v", got, want)
	}
	d.addsUp()
}

// addsUp checks every account in memory: its audience is who has read it, who
// is handed over, and who is pending; the gauges are the sum.
func (d *desk) addsUp() {
	d.t.Helper()
	d.l.mu.Lock()
	defer d.l.mu.Unlock()
	pairs := 0
	for seq, e := range d.l.entries {
		done := roaring.Or(roaring.Or(e.read, e.handed), e.forgotten)
		flying := 0
		for _, g := range e.givenUp {
			if !roaring.AndNot(g.readers, e.audience).IsEmpty() || !roaring.AndNot(g.flight, g.readers).IsEmpty() {
				d.t.Errorf("message %d: %v is given up, %v flies", seq, g.readers, g.flight)
			}
			flying += int(roaring.And(g.flight, e.read).GetCardinality())
			if !roaring.AndNot(roaring.And(g.readers, done), g.flight).IsEmpty() {
				d.t.Errorf("message %d: %v is given up, and %v is done", seq, g.readers, done)
			}
		}
		if !roaring.AndNot(done, e.audience).IsEmpty() {
			d.t.Errorf("message %d: %v is done, its audience is %v", seq, done, e.audience)
		}
		if want := int(e.audience.GetCardinality()-done.GetCardinality()) + flying; e.left != want {
			d.t.Errorf("message %d: %d readers are left, want %d", seq, e.left, want)
		}
		pairs += e.left
	}
	if pairs != d.l.pairs {
		d.t.Errorf("%d pairs are pending, want %d", d.l.pairs, pairs)
	}
}

// inMemory is how many accounts the ledger holds.
func (d *desk) inMemory() int {
	d.l.mu.Lock()
	defer d.l.mu.Unlock()
	if len(d.l.ids) != len(d.l.entries) {
		d.t.Errorf("%d entries, %d ids", len(d.l.entries), len(d.l.ids))
	}
	return len(d.l.entries)
}
