package fanout

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"newswire/fanout/journal"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Readers knows who reads: each reader's number and the tags it follows and
// mutes, as they stand at the journal's head. Every change goes through Edit.
type Readers struct {
	home Home
	m    *readerMetrics
	last atomic.Uint32 // the highest number given out

	stripes [256]stripe // a reader's stripe is the hash of its name

	seenMu sync.Mutex      // guards seen
	seen   *roaring.Bitmap // who was here since KeepTTL looked
}

type readerMetrics struct{ expired prometheus.Counter }

// stripe holds the readers whose record was needed lately. Its lock is held
// while a change gets its place in the journal, so that a reader's changes are
// journaled in the order in which they were made; this waits only while the
// journal's queue is full.
type stripe struct {
	mu     sync.Mutex // guards recent and what it holds
	recent map[string]*reader
}

// maxRecent is how many readers a stripe keeps in memory: 12,800 in all.
const maxRecent = 50

type reader struct {
	number  journal.Reader // 0: not known yet
	sets    Sets
	permit  Permit
	changed journal.Seq // the last change since it was read from disk
	met     bool        // it has followed something
}

// OpenReaders finds the highest number that was given out. It starts nothing.
func OpenReaders(h Home, reg prometheus.Registerer) (*Readers, error) {
	r := &Readers{home: h, seen: roaring.New(), m: &readerMetrics{promauto.With(reg).NewCounter(prometheus.CounterOpts{
		Name: "newswire_readers_expired_total",
		Help: "Readers who were forgotten because they had not come for ack.reader_ttl.",
	})}}
	highest, err := h.Highest()
	if err != nil {
		return nil, fmt.Errorf("open readers: %w", err)
	}
	r.last.Store(uint32(highest))
	for i := range r.stripes {
		r.stripes[i].recent = make(map[string]*reader)
	}
	return r, nil
}

// Edited is what an Edit led to.
type Edited struct {
	Reader  journal.Reader
	Sets    Sets
	Seq     journal.Seq // the place of the reader's last change; 0 when it is long past
	Changed bool        // the sets did
}

// Edit changes what a reader follows and mutes, and makes the reader known
// when it is new. limit bounds the tags in both sets together; 0 means none.
// The change is in effect for the messages behind Edited.Seq, and durable when
// the journal has synced it. One malformed tag changes nothing: *ErrTag,
// *ErrTagLimit.
func (r *Readers) Edit(ctx context.Context, name string, e Edit, limit int) (Edited, error) {
	if err := e.check(); err != nil {
		return Edited{}, err
	}
	s := r.stripe(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	edited, err := r.editLocked(ctx, s, name, e, limit)
	if err == nil {
		r.see(edited.Reader)
	}
	return edited, err
}

// editLocked is Edit under the lock of the reader's stripe.
func (r *Readers) editLocked(ctx context.Context, s *stripe, name string, e Edit, limit int) (Edited, error) {
	rd, err := r.getLocked(s, name)
	if err != nil {
		return Edited{}, err
	}
	after, permit := e.apply(rd.sets), rd.permit
	if e.Permit != nil {
		permit = *e.Permit
		if e.Widen != nil && rd.number != 0 {
			permit = e.Widen(rd.number, permit)
		}
	}
	if n := len(after.Follow) + len(after.Mute); limit > 0 && n > limit && n > len(rd.sets.Follow)+len(rd.sets.Mute) {
		return Edited{}, &ErrTagLimit{limit}
	}
	c := journal.Change{Name: name, Reader: rd.number}
	c.Follow, c.Unfollow = difference(rd.permit.matched(rd.sets.Follow), permit.matched(after.Follow))
	c.Mute, c.Unmute = difference(rd.sets.Mute, after.Mute)
	same := after.equal(rd.sets)
	if same && permit.equal(rd.permit) && rd.number != 0 {
		return Edited{rd.number, after, rd.changed, false}, nil
	}
	if rd.number == 0 {
		c.Reader = journal.Reader(r.last.Add(1))
	}
	if !rd.met && len(c.Follow) > 0 { // so these are all that it follows
		c.First, c.Muted = true, after.Mute
	}
	met := rd.met || c.First
	seq, err := r.home.Save(ctx, c, Record{c.Reader, after.Follow, after.Mute, permit, met})
	if err != nil {
		return Edited{}, err
	}
	*rd = reader{c.Reader, after, permit, seq, met}
	return Edited{rd.number, after.clone(), seq, !same}, nil
}

// Forget deletes a reader: it is in no audience behind the Seq that Forget
// returns. A reader that is not known is no error; its Seq is 0.
func (r *Readers) Forget(ctx context.Context, name string) (Edited, error) {
	s := r.stripe(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	return r.forgetLocked(ctx, s, name)
}

// forgetLocked is Forget under the lock of the reader's stripe.
func (r *Readers) forgetLocked(ctx context.Context, s *stripe, name string) (Edited, error) {
	rd, err := r.getLocked(s, name)
	if err != nil || rd.number == 0 {
		return Edited{}, err
	}
	c := journal.Change{Name: name, Reader: rd.number, Unfollow: rd.permit.matched(rd.sets.Follow), Unmute: rd.sets.Mute, Forget: true}
	seq, err := r.home.Forget(ctx, c)
	if err != nil {
		return Edited{}, err
	}
	gone := Edited{Reader: rd.number, Seq: seq, Changed: true}
	*rd = reader{changed: seq}
	return gone, nil
}

// Get gives a reader's number and sets; the number is 0 when it is not known.
// Who asks is here.
func (r *Readers) Get(name string) (journal.Reader, Sets, error) {
	s := r.stripe(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	rd, err := r.getLocked(s, name)
	if err != nil {
		return 0, Sets{}, err
	}
	r.see(rd.number)
	return rd.number, rd.sets.clone(), nil
}

// Name gives the name behind a number; ok is false when the reader was
// forgotten.
func (r *Readers) Name(number journal.Reader) (name string, ok bool, err error) {
	return r.home.Name(number)
}

func (r *Readers) stripe(name string) *stripe {
	return &r.stripes[xxhash.Sum64String(name)%uint64(len(r.stripes))]
}

// getLocked finds a reader among the recent ones or at home.
func (r *Readers) getLocked(s *stripe, name string) (*reader, error) {
	if rd := s.recent[name]; rd != nil {
		return rd, nil
	}
	rec, _, err := r.home.Record(name)
	if err != nil {
		return nil, err
	}
	if len(s.recent) >= maxRecent {
		s.shrinkLocked(r.home)
	}
	rd := &reader{number: rec.Number, sets: Sets{rec.Follow, rec.Mute}, permit: rec.Permit, met: rec.Met || len(rec.Follow) > 0}
	s.recent[name] = rd
	return rd, nil
}

// shrinkLocked forgets readers whose record at home is up to date.
func (s *stripe) shrinkLocked(h Home) {
	kept := h.Kept()
	for name, rd := range s.recent {
		if rd.changed <= kept {
			delete(s.recent, name)
		}
	}
}
