package ack

import (
	"cmp"
	"maps"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"newswire/fanout/journal"

	"pgregory.net/rapid"
)

// modelReaders are 1 to modelReaders.
const modelReaders = 5

// account is one message in the naive model.
type account struct {
	id     journal.ID
	sent   map[uint32]int // audience -> highest attempt; 0: never
	first  map[uint32]time.Time
	read   map[uint32]bool
	handed map[uint32]bool
	gone   map[uint32]bool // forgotten while it was owed

	withdrawn bool
	told      map[uint32]bool // Kafka has the cancel of what was withdrawn before it left
}

// model is the ledger with a map for everything.
type model struct {
	d        *desk
	accounts map[journal.Seq]*account
	last     journal.Seq        // the last message with an audience
	flight   []HandOver         // given and not settled
	cancels  map[[2]uint64]bool // to be cancelled: place, reader
	unsaved  *journal.Update    // what the router has not written yet
}

func (m *model) pending(a *account, r uint32) bool { return !a.read[r] && !a.handed[r] && !a.gone[r] }

func (m *model) publish(t *rapid.T) {
	audience := rapid.SliceOfNDistinct(rapid.Uint32Range(1, modelReaders), 0, modelReaders, rapid.ID).Draw(t, "audience")
	audience = slices.DeleteFunc(audience, func(r uint32) bool { return m.d.gone[journal.Reader(r)] })
	seq, id := m.d.place(m.unsaved, audience...)
	if rapid.Bool().Draw(t, "the router writes") {
		m.save()
	}
	if len(audience) == 0 {
		return
	}
	a := &account{
		id: id, sent: make(map[uint32]int), first: make(map[uint32]time.Time),
		read: make(map[uint32]bool), handed: make(map[uint32]bool), gone: make(map[uint32]bool),
		told: make(map[uint32]bool),
	}
	for _, r := range audience {
		a.sent[r] = 0
	}
	m.accounts[seq], m.last = a, seq
}

func (m *model) save() {
	m.d.apply(*m.unsaved)
	*m.unsaved = journal.Update{}
}

// withdraw retracts the row of all that was published. What readers were handed
// over of it is to be cancelled, also what was before.
func (m *model) withdraw() {
	m.save()
	m.d.withdraw()
	m.d.flushed()
	for seq, a := range m.accounts {
		a.withdrawn = true
		for r := range a.handed {
			if a.handed[r] && !a.read[r] && !m.d.gone[journal.Reader(r)] {
				m.cancels[[2]uint64{uint64(seq), uint64(r)}] = true
			}
		}
	}
}

// pick draws a message that there is.
func (m *model) pick(t *rapid.T) (journal.Seq, *account) {
	if len(m.accounts) == 0 {
		t.Skip("no message")
	}
	seq := rapid.SampledFrom(slices.Sorted(maps.Keys(m.accounts))).Draw(t, "message")
	return seq, m.accounts[seq]
}

var modelReader = rapid.Uint32Range(1, modelReaders)

// deliver writes a message to a reader, as a session does: only to its
// audience, and the attempt that a replay repeats.
func (m *model) deliver(t *rapid.T) {
	seq, a := m.pick(t)
	r := modelReader.Draw(t, "reader")
	n, in := a.sent[r]
	if !in {
		return
	}
	n = max(n, 1)
	m.d.sent(r, n, seq)
	if a.sent[r] == 0 && rapid.IntRange(0, 3).Draw(t, "the write fails") == 0 {
		m.d.unsent(r, n, seq)
		return
	}
	if a.sent[r] == 0 {
		a.first[r] = time.Now()
	}
	a.sent[r] = n
}

// ack acknowledges something, perhaps of others, perhaps again.
func (m *model) ack(t *rapid.T) {
	seq, a := m.pick(t)
	r := modelReader.Draw(t, "reader")
	m.d.ack(r, a.id)
	if a.sent[r] > 0 {
		m.markRead(seq, a, r)
	}
}

func (m *model) poll(t *rapid.T) {
	seq, a := m.pick(t)
	r := modelReader.Draw(t, "reader")
	m.d.must(m.d.l.Read(journal.Reader(r), []journal.Seq{seq}))
	if _, in := a.sent[r]; in {
		m.markRead(seq, a, r)
	}
}

func (m *model) markRead(seq journal.Seq, a *account, r uint32) {
	if a.gone[r] {
		return
	}
	if !a.read[r] && a.handed[r] && !m.d.gone[journal.Reader(r)] {
		m.cancels[[2]uint64{uint64(seq), uint64(r)}] = true
	}
	a.read[r] = true
}

// forget deletes a reader, behind all that was published. What the router has
// not written yet, a crash would open again.
func (m *model) forget(t *rapid.T) {
	r := modelReader.Draw(t, "reader")
	m.save()
	m.d.gone[journal.Reader(r)] = true
	m.d.l.Forget(journal.Reader(r))
	for seq, a := range m.accounts {
		if _, in := a.sent[r]; in && m.pending(a, r) {
			a.gone[r] = true
		}
		delete(m.cancels, [2]uint64{uint64(seq), uint64(r)})
	}
}

// take gives the sender a batch, and checks that it is owed.
func (m *model) take(t *rapid.T) {
	if len(m.flight) > 0 || m.d.l.Counts().Backlog+len(m.cancels) == 0 {
		t.Skip("nothing to take")
	}
	overs, cancels := m.d.next(rapid.IntRange(1, 4).Draw(t, "limit"))
	if len(overs)+len(cancels) == 0 {
		t.Fatalf("given nothing of %+v and %d cancels", m.d.l.Counts(), len(m.cancels))
	}
	for i, over := range overs {
		a, r := m.accounts[over.Seq], uint32(over.Reader)
		if !m.pending(a, r) || over.Message.ID != a.id {
			t.Fatalf("given %+v, which is not owed", over)
		}
		if a.withdrawn && !a.told[r] {
			t.Fatalf("given %+v, which was withdrawn, before its cancel", over)
		}
		if over.Attempts != a.sent[r] || a.sent[r] > 0 && over.FirstSent.Sub(a.first[r]).Abs() > sendBucket {
			t.Fatalf("given %+v, want %d attempts, first %v", over, a.sent[r], a.first[r])
		}
		if (over.Attempts == 0) == (over.Reason == ReasonAckTimeout) {
			t.Fatalf("%+v has a wrong reason", over)
		}
		if slices.ContainsFunc(overs[:i], func(o HandOver) bool { return o.Seq == over.Seq && o.Reader == over.Reader }) {
			t.Fatalf("given twice: %+v", over)
		}
	}
	for _, c := range cancels {
		a, r := m.accounts[c.Seq], uint32(c.Reader)
		ahead := a.withdrawn && m.pending(a, r) && !a.told[r]
		again := a.withdrawn && a.handed[r] // a second retraction of the row cancels it once more
		if !ahead && !again && !m.cancels[[2]uint64{uint64(c.Seq), uint64(r)}] || c.ID != a.id {
			t.Fatalf("cancelled %+v, which is not owed", c)
		}
	}
	m.flight = overs
	for range rapid.IntRange(0, 2).Draw(t, "acknowledgements meanwhile") {
		m.ack(t)
	}
	if rapid.IntRange(0, 9).Draw(t, "withdrawn meanwhile") == 0 {
		m.withdraw()
	}
	m.settle(t, cancels)
}

func (m *model) settle(t *rapid.T, cancels []Cancel) {
	kafka := func(n int) (answers []bool) {
		for range n {
			answers = append(answers, rapid.Bool().Draw(t, "Kafka has it"))
		}
		return answers
	}
	handed, cancelled := kafka(len(m.flight)), kafka(len(cancels))
	m.d.settle(handed, cancelled)
	for i, over := range m.flight {
		a, r := m.accounts[over.Seq], uint32(over.Reader)
		if a.handed[r] = handed[i]; handed[i] && (a.read[r] || a.withdrawn && !a.told[r]) {
			m.cancels[[2]uint64{uint64(over.Seq), uint64(r)}] = true
		}
	}
	m.flight = nil
	for i, c := range cancels {
		if a, r := m.accounts[c.Seq], uint32(c.Reader); cancelled[i] {
			delete(m.cancels, [2]uint64{uint64(c.Seq), uint64(r)})
			a.told[r] = a.told[r] || !a.handed[r]
		}
	}
}

// unread compares one answer with the model's.
func (m *model) unread(t *rapid.T, r uint32, after journal.Seq, limit int) {
	found, through, err := m.d.l.Unread(journal.Reader(r), after, limit)
	m.d.must(err)
	var want []journal.Attempt
	for _, seq := range slices.Sorted(maps.Keys(m.accounts)) {
		a := m.accounts[seq]
		if n, in := a.sent[r]; in && !a.read[r] && !a.gone[r] && seq > after && len(want) < limit {
			want = append(want, journal.Attempt{Seq: seq, N: max(n, 1), Replay: true})
		}
	}
	if !slices.Equal(found, want) {
		t.Fatalf("unread of %d behind %d, at most %d: %+v through %d, want %+v", r, after, limit, found, through, want)
	}
	if len(found) == limit && through != found[limit-1].Seq || len(found) < limit && through < m.last {
		t.Fatalf("unread of %d behind %d, at most %d: %+v is complete through %d, the last message is %d", r, after, limit, found, through, m.last)
	}
}

// check compares all that can be asked with the model.
func (m *model) check(t *rapid.T) {
	for _, again := range m.d.takeRetries() {
		a := m.accounts[again.seq]
		if a.read[again.reader] || a.handed[again.reader] || a.gone[again.reader] || again.n > a.sent[again.reader]+1 {
			t.Fatalf("sent again %+v to who had attempt %d, read %t", again, a.sent[again.reader], a.read[again.reader])
		}
		a.sent[again.reader] = max(a.sent[again.reader], again.n)
	}
	want := Counts{Backlog: m.d.l.Counts().Backlog}
	for _, a := range m.accounts {
		before := want.Pairs
		for r := range a.sent {
			if m.pending(a, r) {
				want.Pairs++
			}
		}
		if want.Pairs > before {
			want.Messages++
		}
	}
	m.d.wantCounts(want)
	for r := range uint32(modelReaders) {
		m.unread(t, r+1, 0, 100)
	}
}

// untimed is a test without a deadline: a bubble must not ask for one.
type untimed struct{ *testing.T }

func (untimed) Deadline() (time.Time, bool) { return time.Time{}, false }

func (d *desk) takeRetries() []retry {
	d.mu.Lock()
	defer d.mu.Unlock()
	taken := d.retries
	d.retries = nil
	slices.SortStableFunc(taken, func(a, b retry) int { return cmp.Compare(a.at, b.at) })
	return taken
}

// Whatever happens, and wherever the program stops and starts, the ledger says
// of every reader and message what the naive model says: unread, pending, to
// be handed over, to be cancelled.
func TestLedgerAsInTheModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(untimed{t}, func(t *rapid.T) {
			dir, err := os.MkdirTemp("", "newswire-ack")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			m := &model{
				d: newDesk(t, dir, usual), accounts: make(map[journal.Seq]*account),
				cancels: make(map[[2]uint64]bool), unsaved: new(journal.Update),
			}
			defer func() { m.d.close() }()
			m.d.l.Arm()
			t.Repeat(map[string]func(*rapid.T){
				"":        m.check,
				"publish": m.publish,
				"deliver": m.deliver,
				"ack":     m.ack,
				"poll":    m.poll,
				"take":    m.take,
				"withdraw": func(t *rapid.T) {
					if rapid.IntRange(0, 4).Draw(t, "rarely") == 0 {
						m.withdraw()
					}
				},
				"unread": func(t *rapid.T) {
					after := journal.Seq(rapid.IntRange(0, 10).Draw(t, "after"))
					m.unread(t, modelReader.Draw(t, "reader"), after, rapid.IntRange(1, 3).Draw(t, "limit"))
				},
				"forget": func(t *rapid.T) {
					if rapid.IntRange(0, 9).Draw(t, "rarely") == 0 {
						m.forget(t)
					}
				},
				"connect":       func(t *rapid.T) { m.d.connect(modelReader.Draw(t, "reader")) },
				"leave":         func(t *rapid.T) { m.d.leave(modelReader.Draw(t, "reader")) },
				"router":        func(*rapid.T) { m.save() },
				"wait a little": func(*rapid.T) { m.d.flushed() },
				"wait": func(t *rapid.T) {
					time.Sleep(time.Duration(rapid.IntRange(1, 70).Draw(t, "seconds")) * time.Second)
					synctest.Wait()
				},
				"restart": func(t *rapid.T) {
					m.save() // the router ends before the ledger
					gone := m.d.gone
					m.d = m.d.restart(dir)
					m.d.gone = gone
					for _, a := range m.accounts {
						clear(a.told) // is cancelled once more
					}
					if rapid.Bool().Draw(t, "armed") {
						m.d.l.Arm()
					}
				},
			})
		})
	})
}
