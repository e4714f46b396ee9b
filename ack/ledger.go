// Package ack keeps account of every message and every reader of its audience
// until the reader has acknowledged it or Kafka has it.
//
// The account of a message is a handful of bitmaps over reader numbers, and one
// timer serves all deadlines. A reader who does not acknowledge is sent the
// message again, a few times with growing waits; who is not connected for a
// whole ack timeout, or never acknowledges, is given up: the ledger's entry is
// then the outbox from which ack/offline fills the topic news-offline.
package ack

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"newswire/fanout/journal"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// Config says how long a reader has.
type Config struct {
	Timeout time.Duration // to acknowledge the first attempt; at least 100 ms
	Retries int           // further attempts; 0 or more
	Backoff float64       // each wait is so many times the one before; 1 or more
}

// longest bounds every wait, so that waits can be added up.
const longest time.Duration = math.MaxInt64 / 4

// wait is how long a reader has to acknowledge attempt n.
func (c Config) wait(n int) time.Duration {
	d := float64(c.Timeout) * math.Pow(c.Backoff, float64(n-1))
	return time.Duration(min(d, float64(longest)))
}

// total is how long a message is with a reader who is there and silent.
func (c Config) total() (sum time.Duration) {
	for n := range c.Retries + 1 {
		if sum += c.wait(n + 1); sum >= longest {
			return longest
		}
	}
	return sum
}

// Courier reaches the readers who are connected.
type Courier interface {
	// Presence tells which of some readers are connected, and of those who came
	// or went within lately, when that was.
	Presence(of *roaring.Bitmap, lately time.Duration) Presence
	// Resend queues attempt n of a message for those of readers who are
	// connected. It does not block for long.
	Resend(seq journal.Seq, n int, readers *roaring.Bitmap)
}

// Presence is what a Courier knows about some readers.
type Presence struct {
	Connected *roaring.Bitmap
	Changed   map[journal.Reader]time.Time
}

// Names gives the readers' names.
type Names interface {
	Name(journal.Reader) (name string, ok bool, err error)
}

// flushAfter is how long a change of an account may wait for others to be
// written with it. What a crash takes with it is sent again.
const flushAfter = 50 * time.Millisecond

// Ledger is the account of all messages.
type Ledger struct {
	cfg   Config // fixed by New
	j     *journal.Journal
	names Names
	log   *slog.Logger
	m     *metrics

	wake   chan struct{} // holds one token when Run should look at its timers
	supply chan struct{} // holds one token when Next should look for work

	mu       sync.Mutex                 // guards the rest, and every entry
	entries  map[journal.Seq]*entry     // all that is in memory
	ids      map[journal.ID]journal.Seq // of entries
	open     []*entry                   // in Seq order, with some that have left memory
	released int                        // about how many of open have left memory
	opened   journal.Seq                // the last message that Open saw
	totals   opened
	waits    waitHeap
	listed   []*entry                       // to be written, or only to leave memory again
	releases uint64                         // counts what has left memory
	floors   map[journal.Reader]journal.Seq // nothing before it is unread
	rows     map[row][]journal.Seq          // of entries that were opened since the start
	retracts []*retraction                  // oldest first
	leaving  map[row]journal.Seq            // of retracts, the last of each row
	skips    skips
	armed    bool      // deadlines may fall
	graced   time.Time // when everyone was last given time to come back
	pairs    int       // reader and message, neither read nor handed over

	outbox  []*giveUp // oldest first
	flight  []flown   // what the sender has now
	ahead   []flown   // whose cancel the sender has now, ahead of their copy
	cancels []Cancel  // oldest first; those at the front may be with the sender
	added   []Cancel  // of cancels, those that are not on disk yet

	departures []departure // notes on disk, and those on their way there
	departed   uint64      // the last one's number

	unsaved []journal.Update // owned by Run: records of blocks that were made while loading

	expiry  sync.Mutex // guards what follows: one Expire at a time
	expired expired
	swept   journal.Seq // nothing before it is on disk
}

// New loads what is not settled. It starts nothing.
func New(cfg Config, j *journal.Journal, names Names, log *slog.Logger, reg prometheus.Registerer) (*Ledger, error) {
	l := &Ledger{
		cfg: cfg, j: j, names: names, log: log,
		wake: make(chan struct{}, 1), supply: make(chan struct{}, 1),
		entries: make(map[journal.Seq]*entry),
		ids:     make(map[journal.ID]journal.Seq),
		floors:  make(map[journal.Reader]journal.Seq),
		rows:    make(map[row][]journal.Seq),
		leaving: make(map[row]journal.Seq),
		skips:   skips{busy: make(map[block]int), partial: make(map[block]*partialSkip)},
	}
	l.m = newMetrics(reg, l)
	if err := l.load(time.Now()); err != nil {
		return nil, fmt.Errorf("load ledger: %w", err)
	}
	return l, nil
}

// load takes up every entry that is not settled, and the cancels that Kafka
// does not have.
func (l *Ledger) load(now time.Time) error {
	return l.j.View(func(v journal.View) error {
		err := errors.Join(loadTotals(v, keyOpened, &l.totals), loadTotals(v, keyExpired, &l.expired))
		if err != nil {
			return err
		}
		l.opened = l.totals.Through
		err = v.Scan(journal.SpaceOpen, nil, func(key, _ []byte) (bool, error) {
			e, ok, err := loadEntry(v, journal.SeqOf(key))
			if err != nil || !ok {
				return err == nil, err
			}
			e.opened = now
			e.sends, e.asleep = nil, len(e.sends) > 0 // until its deadline falls, or somebody comes back for it
			l.insertLocked(e)
			l.open = append(l.open, e)
			l.countLocked(e)
			if e.settled() { // it was stopped before it could say so
				l.dirtiedLocked(e)
			}
			l.pairs += e.left
			l.waits.add(wait{entry: e, due: now.Add(l.cfg.Timeout)})
			return true, nil
		})
		if err != nil {
			return err
		}
		err = v.Scan(journal.SpaceCancels, nil, func(key, value []byte) (bool, error) {
			c, err := decodeCancel(key, value)
			l.cancels = append(l.cancels, c)
			return err == nil, err
		})
		return errors.Join(err, l.loadDepartures(v), l.loadRetracts(v), l.loadSkips(v))
	})
}

func (l *Ledger) insertLocked(e *entry) {
	e.grain = l.cfg.grain()
	l.entries[e.seq] = e
	l.ids[e.id] = e.seq
}

// Arm lets deadlines fall, none earlier than one ack timeout from now: readers
// get the time to come back after a start. Until then nobody is given up.
func (l *Ledger) Arm() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.armed {
		l.armed = true
		l.graceLocked(time.Now())
	}
}

// graceLocked moves every deadline to at least one ack timeout from now.
func (l *Ledger) graceLocked(now time.Time) {
	l.graced = now
	l.waits.noneBefore(now.Add(l.cfg.Timeout))
	l.poke()
}

// poke makes Run look at its timers.
func (l *Ledger) poke() {
	select {
	case l.wake <- struct{}{}:
	default: // the token is there already
	}
}

// Open begins the account of a message, with its record in u. A message that
// nobody shall have has none. It is called in Seq order.
func (l *Ledger) Open(u *journal.Update, seq journal.Seq, m *journal.Message, audience *roaring.Bitmap) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.passBlocksLocked(seq)
	l.openedLocked(seq, audience, now)
	if audience.IsEmpty() {
		l.historyLocked(u, seq, m, nil)
		return
	}
	e := newEntry(seq, m.ID, now, audience)
	storeAudience(u, e)
	u.Set(journal.SpaceOpen.Seq(seq), nil)
	l.historyLocked(u, seq, m, e)
	l.insertLocked(e)
	l.countLocked(e)
	l.open = append(l.open, e)
	l.pairs += e.left
	if l.waits.add(wait{entry: e, due: now.Add(l.cfg.Timeout)}) {
		l.poke()
	}
}

// Opened gives the last message that was routed, or is about to be: everything
// that any reader has got stands at or before it.
func (l *Ledger) Opened() journal.Seq {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.opened
}

// Sent notes that attempts are being written to a reader. It is called before
// the write, so that no acknowledgement can overtake it.
func (l *Ledger) Sent(r journal.Reader, attempts []journal.Attempt) error {
	now := time.Now()
	return l.with(attempts, func(e *entry, a journal.Attempt) { e.record(r, a.N, now) })
}

// SentToMany is Sent of one attempt that is being written to many.
func (l *Ledger) SentToMany(a journal.Attempt, readers []journal.Reader) error {
	now := time.Now()
	return l.with([]journal.Attempt{a}, func(e *entry, a journal.Attempt) { e.recordMany(readers, a.N, now) })
}

// Unsent takes Sent back when the write failed.
func (l *Ledger) Unsent(r journal.Reader, attempts []journal.Attempt) error {
	return l.with(attempts, func(e *entry, a journal.Attempt) { e.unrecord(r, a.N) })
}

// with calls act for the entry of each attempt, under the lock.
func (l *Ledger) with(attempts []journal.Attempt, act func(*entry, journal.Attempt)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range attempts {
		e, err := l.entryLocked(a.Seq)
		if err != nil {
			return err
		}
		if e == nil {
			continue // no longer kept, or nobody's
		}
		act(e, a)
		l.dirtiedLocked(e)
	}
	return nil
}

// dirtiedLocked notes that an entry differs from its record.
func (l *Ledger) dirtiedLocked(e *entry) {
	e.dirty = true
	l.listLocked(e)
}

// listLocked makes flush look at an entry.
func (l *Ledger) listLocked(e *entry) {
	if e.listed {
		return
	}
	e.listed = true
	if len(l.listed) == 0 {
		l.poke()
	}
	l.listed = append(l.listed, e)
}

// entryLocked gives an entry from memory, or else from disk, where those are
// that were settled long ago. It lets go of the lock while it reads.
func (l *Ledger) entryLocked(seq journal.Seq) (*entry, error) {
	for {
		if e := l.entries[seq]; e != nil {
			if e.asleep {
				if err := l.wakeLocked(e); err != nil {
					return nil, err
				}
				continue
			}
			return e, nil
		}
		before := l.releases
		l.mu.Unlock()
		var e *entry
		err := l.j.View(func(v journal.View) (err error) {
			e, _, err = loadEntry(v, seq)
			return err
		})
		l.mu.Lock()
		switch {
		case err != nil || e == nil:
			return nil, err
		case l.entries[seq] != nil || l.releases != before:
			continue // somebody was quicker; what was read may be old by now
		case e.left > 0:
			return nil, fmt.Errorf("ledger entry %d is not settled and not in memory", seq)
		}
		l.insertLocked(e)
		l.listLocked(e) // so that it leaves memory again
		return e, nil
	}
}

// wakeLocked reads the sends of an entry that sleeps. It lets go of the lock
// while it reads; nobody changes them meanwhile.
func (l *Ledger) wakeLocked(e *entry) error {
	l.mu.Unlock()
	read := newEntry(e.seq, e.id, e.opened, e.audience)
	err := l.j.View(func(v journal.View) error { return loadSends(v, read) })
	l.mu.Lock()
	if err != nil {
		return err
	}
	if e.asleep { // else somebody was quicker
		e.sends, e.asleep = read.sends, false
		l.listLocked(e) // so that it sleeps again
	}
	return nil
}
