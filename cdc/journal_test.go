package cdc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"newswire/cdc/pgtest"
	"newswire/fanout/journal"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// patience is how long a test waits for what must happen.
const patience = 2 * time.Minute

// memJournal keeps in memory what the listener gives, repeats too.
type memJournal struct {
	mu        sync.Mutex // guards the rest
	changed   chan struct{}
	appended  []journal.Commit  // every call, repeats included
	parts     []journal.Commit  // every call of Spool
	spooled   []journal.Commit  // of the open commit
	dropped   int               // commits that were not finished
	before    map[string][]byte // rows as they were before the open commit
	last      journal.LSN       // commit record of the last new commit
	messages  []journal.Message
	read      journal.LSN
	confirmed journal.LSN
	holding   bool  // confirm nothing by itself
	full      error // that Full gives
	source    journal.Source
	known     bool
	blocked   chan struct{} // Append waits while it is open; nil: it does not
	rows      map[string][]byte
}

func newMemJournal() *memJournal {
	return &memJournal{changed: make(chan struct{}), rows: make(map[string][]byte)}
}

func (j *memJournal) touchLocked() {
	close(j.changed)
	j.changed = make(chan struct{})
}

func (j *memJournal) Append(ctx context.Context, c journal.Commit) error {
	j.mu.Lock()
	blocked := j.blocked
	j.mu.Unlock()
	if blocked != nil {
		select {
		case <-blocked:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.appended = append(j.appended, c)
	if c.LSN > j.last || c.Epoch > j.source.Epoch {
		if c.Spooled != len(j.spooled) {
			return fmt.Errorf("commit %s tells of %d parts, %d were spooled", c.LSN, c.Spooled, len(j.spooled))
		}
		if !c.Part {
			j.last = c.LSN
		}
		for _, part := range j.spooled {
			j.messages = append(j.messages, part.Messages...)
		}
		j.messages = append(j.messages, c.Messages...)
		j.setRowsLocked(c.Rows)
		j.spooled, j.before = nil, nil
	}
	if c.Part {
		j.touchLocked()
	} else {
		j.raiseLocked(c.End)
	}
	return nil
}

func (j *memJournal) setRowsLocked(rows []journal.Row) {
	for _, r := range rows {
		if r.State == nil {
			delete(j.rows, string(r.Key))
		} else {
			j.rows[string(r.Key)] = r.State
		}
	}
}

func (j *memJournal) Spool(_ context.Context, c journal.Commit) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.parts = append(j.parts, c)
	j.touchLocked()
	if c.LSN <= j.last && c.Epoch <= j.source.Epoch {
		return nil
	}
	if c.Spooled != len(j.spooled) || len(j.spooled) > 0 && j.spooled[0].LSN != c.LSN {
		return fmt.Errorf("part %d of %s comes behind %d others", c.Spooled, c.LSN, len(j.spooled))
	}
	if j.before == nil {
		j.before = maps.Clone(j.rows)
	}
	j.spooled = append(j.spooled, c)
	j.setRowsLocked(c.Rows)
	return nil
}

func (j *memJournal) DropSpool(context.Context) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.spooled != nil {
		j.rows, j.spooled, j.before = j.before, nil, nil
		j.dropped++
		j.touchLocked()
	}
	return nil
}

func (j *memJournal) Advance(_ context.Context, lsn journal.LSN) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.raiseLocked(lsn)
	return nil
}

func (j *memJournal) raiseLocked(lsn journal.LSN) {
	j.read = max(j.read, lsn)
	if !j.holding {
		j.confirmed = j.read
	}
	j.touchLocked()
}

func (j *memJournal) Confirmed() journal.LSN {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.confirmed
}

func (j *memJournal) Accepted() journal.LSN {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.read
}

func (j *memJournal) Full() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.full
}

func (j *memJournal) Source() (journal.Source, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.source, j.known
}

func (j *memJournal) SetSource(_ context.Context, s journal.Source) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.source, j.known = s, true
	return nil
}

func (j *memJournal) Rebase(_ context.Context, s journal.Source, lsn journal.LSN) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.source, j.known, j.read, j.confirmed, j.last = s, true, lsn, lsn, 0
	return nil
}

func (j *memJournal) Row(key []byte) ([]byte, bool, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	state, ok := j.rows[string(key)]
	return state, ok, nil
}

func (j *memJournal) Rows(prefix []byte, each func(key, state []byte) error) error {
	j.mu.Lock()
	rows := maps.Clone(j.rows)
	j.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(rows)) {
		if strings.HasPrefix(key, string(prefix)) {
			if err := each([]byte(key), rows[key]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (j *memJournal) FillRows(_ context.Context, rows func(yield func(journal.Row) bool)) error {
	for r := range rows {
		j.mu.Lock()
		if j.rows[string(r.Key)] = r.State; r.State == nil {
			delete(j.rows, string(r.Key))
		}
		j.mu.Unlock()
	}
	return nil
}

func (j *memJournal) MessageByID(id journal.ID) (*journal.Message, bool, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	lists := [][]journal.Message{j.messages}
	for _, part := range j.spooled {
		lists = append(lists, part.Messages)
	}
	for _, list := range lists {
		for i := range list {
			if list[i].ID == id {
				return &list[i], true, nil
			}
		}
	}
	return nil, false, nil
}

// hold stops confirming; release confirms all that was read and goes on.
func (j *memJournal) hold(on bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.holding = on
	if !on {
		j.confirmed = j.read
	}
}

// wait gives the messages once there are n of them.
func (j *memJournal) wait(t *testing.T, n int) []journal.Message {
	t.Helper()
	var got []journal.Message
	j.until(t, func() bool { got = j.messages; return len(got) >= n })
	if len(got) != n {
		t.Fatalf("%d messages, want %d", len(got), n)
	}
	return got
}

// until returns once ok, which is called with the lock held, says so.
func (j *memJournal) until(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for {
		j.mu.Lock()
		done, changed := ok(), j.changed
		n, calls := len(j.messages), len(j.appended)
		j.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("the journal has %d messages after %d appends; that is not what the test waits for", n, calls)
		}
	}
}

// eventually asks again and again until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never saw that %s", what)
		}
	}
}

// articles is the configuration for pgtest's table.
func articles(db *pgtest.DB) Config {
	return Config{
		DSN:         db.DSN,
		Slot:        db.Slot,
		Publication: db.Publication,
		Tables: []Table{{
			Name: "public.articles",
			Tags: Tags{Column: "tags"},
			Data: []string{"id", "title"},
		}},
	}
}

// running is a listener at work.
type running struct {
	*Listener
	t    *testing.T
	stop context.CancelFunc
	done chan struct{}
	err  error // of Run, once done is closed
}

// listen runs a listener until the test ends or halts it.
func listen(t *testing.T, cfg Config, j Journal) *running {
	t.Helper()
	return listenSet(t, cfg, j, func(*Listener) {})
}

// listenSet is listen with a change of the listener before it runs.
func listenSet(t *testing.T, cfg Config, j Journal, set func(*Listener)) *running {
	t.Helper()
	l, err := New(cfg, j, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	set(l)
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Listener: l, t: t, stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = l.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-r.done })
	return r
}

func (r *running) ready() *running {
	r.t.Helper()
	eventually(r.t, "the slot streams", func() bool { return r.Ready() == nil })
	return r
}

// halt stops the listener as a shutdown does.
func (r *running) halt() {
	r.t.Helper()
	r.stop()
	<-r.done
	if r.err != nil {
		r.t.Errorf("Run = %v after its context ended, want nil", r.err)
	}
}

// fails waits for Run to give up.
func (r *running) fails(want error) error {
	r.t.Helper()
	select {
	case <-r.done:
	case <-time.After(patience):
		r.t.Fatalf("Run goes on, want %v; Ready = %v", want, r.Ready())
	}
	if !errors.Is(r.err, want) {
		r.t.Fatalf("Run = %v, want %v", r.err, want)
	}
	if r.Ready() == nil {
		r.t.Error("Ready = nil after Run gave up")
	}
	return r.err
}

// field reads one member of a message's data.
func field(t *testing.T, m journal.Message, name string) any {
	t.Helper()
	var data map[string]any
	if err := json.Unmarshal(m.Data, &data); err != nil {
		t.Fatalf("data %s: %v", m.Data, err)
	}
	return data[name]
}
