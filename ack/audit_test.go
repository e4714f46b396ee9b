package ack

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"newswire/fanout/journal"

	"github.com/RoaringBitmap/roaring/v2"
)

// lived gives a ledger with messages in every state: for nobody, acknowledged,
// polled, handed over, read late, forgotten, pending, expired. The first 16
// that are kept are settled.
func lived(t *testing.T, d *desk) {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	batch := func(n int) {
		for range n {
			audience := roaring.New()
			for range random.IntN(6) {
				audience.Add(uint32(random.IntN(5) + 1))
			}
			seq, id := d.publish(audience.ToArray()...)
			for _, r := range audience.ToArray() {
				switch random.IntN(5) {
				case 0:
					d.sent(r, 1, seq)
					d.ack(r, id)
				case 1:
					d.sent(r, 1, seq)
					d.must(d.l.Read(journal.Reader(r), []journal.Seq{seq}))
				case 2:
					d.sent(r, 1, seq)
				}
			}
		}
	}
	batch(30)
	d.fall()
	d.drain()
	d.flushed()
	time.Sleep(2 * time.Hour)
	batch(40)
	seq, id := d.publish(1, 2, 3, 4, 5)
	d.sent(1, 1, seq)
	d.fall()
	d.drain()
	d.ack(1, id)
	d.drain()
	if gone, err := d.l.Expire(t.Context(), time.Hour); err != nil || gone != 30 {
		t.Fatalf("Expire = %d, %v", gone, err)
	}
	d.publish(3, 4)
	d.gone[3] = true
	d.l.Forget(3)
	d.flushed()
}

func (d *desk) audit(since time.Time) Report {
	d.t.Helper()
	r, err := Audit(d.t.(*testing.T).Context(), d.j, since)
	d.must(err)
	return r
}

func TestAuditCountsEveryPairOnce(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		if r := d.audit(time.Time{}); !r.AddsUp || r.Messages > 0 {
			t.Errorf("an empty ledger: %+v", r)
		}
		lived(t, d)
		r := d.audit(time.Time{})
		if !r.AddsUp || len(r.Faults) > 0 {
			t.Fatalf("faults: %q", r.Faults)
		}
		if r.Messages != 42 || r.Expired.Messages != 30 || r.Ever.Messages != 72 || r.Late != 1 || r.Forgotten != 1 || r.Pending != 1 || r.Unsettled != 1 {
			t.Errorf("%+v", r)
		}
		if r.Acked+r.Handed+r.Forgotten+r.Pending != r.Pairs || r.Acked == 0 || r.Handed == 0 || r.Nobody == 0 {
			t.Errorf("%+v", r)
		}
		if some := d.audit(time.Now().Add(-10 * time.Second)); !some.AddsUp || some.Messages != 1 || some.Pairs != 2 || some.Whole {
			t.Errorf("since 10 s: %+v", some)
		}
		if live, err := d.l.Audit(t.Context(), time.Time{}); err != nil || live.Parts != r.Parts {
			t.Errorf("of the living: %+v, %v, want %+v", live, err, r)
		}
	})
}

// The audit notices every way in which the records can be wrong.
func TestAuditNoticesEveryDamage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, t.TempDir(), usual)
		d.l.Arm()
		defer func() { d.close() }()
		lived(t, d)
		var settled, open *entry // with something unread, and in the first block
		d.must(d.j.View(func(v journal.View) error {
			for seq := d.j.Oldest(); seq <= d.j.Head(); seq++ {
				e, ok, err := loadEntry(v, seq)
				if err != nil || !ok {
					continue
				}
				switch {
				case !e.settled():
					open = e
				case settled == nil && !e.unread().IsEmpty() && !e.read.IsEmpty() && blockOf(1, seq).last()+20 < d.j.Head():
					settled = e
				}
			}
			return nil
		}))
		if settled == nil || open == nil {
			t.Fatal("there is no message to be damaged")
		}
		get := func(key []byte) (value []byte) {
			d.must(d.j.View(func(v journal.View) (err error) {
				value, _, err = v.Get(key)
				return err
			}))
			return value
		}
		progress := func(change func(e *entry)) func(u *journal.Update) {
			return func(u *journal.Update) {
				changed := readBack(d, settled.seq)
				change(changed)
				storeProgress(u, changed)
			}
		}
		remove := func(key []byte) func(u *journal.Update) {
			return func(u *journal.Update) { u.Delete(key) }
		}
		at := settled.seq
		var ended []byte // key of the first end
		d.must(d.j.View(func(v journal.View) error {
			return v.Look(journal.SpaceEnds.Seq(at), journal.SpaceEnds.Seq(at+1), func(key, _ []byte) (bool, error) {
				ended = bytes.Clone(key)
				return false, nil
			})
		}))
		for name, damage := range map[string]func(u *journal.Update){
			"the audience is gone":       remove(journal.SpaceAudience.Seq(at)),
			"the progress is gone":       remove(journal.SpaceProgress.Seq(at)),
			"the list of unread is gone": remove(journal.SpaceUnread.Seq(at)),
			"nothing waits":              remove(journal.SpaceOpen.Seq(open.seq)),
			"the totals are gone":        remove(keyOpened),
			"a whole account is gone": func(u *journal.Update) {
				for _, s := range accountSpaces {
					u.Delete(s.Seq(at))
				}
				for _, s := range settled.sends {
					u.Delete(sendKey(at, s.serial))
				}
			},
			"the audience is another": func(u *journal.Update) {
				changed := readBack(d, at)
				changed.audience.Add(77)
				storeAudience(u, changed)
			},
			"an acknowledgement is lost": progress(func(e *entry) { e.read.Remove(e.read.Minimum()) }),
			"a hand-over is lost":        progress(func(e *entry) { e.handed.Remove(e.handed.Minimum()) }),
			"a stranger has read it":     progress(func(e *entry) { e.read.Add(99) }),
			"a stranger was handed it":   progress(func(e *entry) { e.handed.Add(99) }),
			"somebody ended twice":       progress(func(e *entry) { e.forgotten.Add(e.read.Minimum()) }),
			"the record is cut": func(u *journal.Update) {
				value := get(journal.SpaceProgress.Seq(at))
				u.Set(journal.SpaceProgress.Seq(at), value[:len(value)-1])
			},
			"the time of an end is lost":    func(u *journal.Update) { u.Delete(ended) },
			"the time of an end is damaged": func(u *journal.Update) { u.Set(ended, []byte{9}) },
			"an attempt is damaged":         func(u *journal.Update) { u.Set(sendKey(at, settled.sends[0].serial), []byte{9}) },
			"another message's account": func(u *journal.Update) {
				changed := readBack(d, at)
				changed.id.LSN++
				storeAudience(u, changed)
			},
			"a search would pass over it": func(u *journal.Update) {
				u.Set(blockOf(1, at).key(), appendBitmap(nil, roaring.New()))
			},
			"a record of no message":   func(u *journal.Update) { u.Set(journal.SpaceOpen.Seq(d.j.Head()+5), nil) },
			"the totals are others":    func(u *journal.Update) { storeTotals(u, keyExpired, &expired{}) },
			"the totals are no totals": func(u *journal.Update) { u.Set(keyOpened, []byte("{")) },
		} {
			var u, mend journal.Update
			damage(&u)
			keys := append([][]byte{
				journal.SpaceOpen.Seq(open.seq), keyOpened, keyExpired, blockOf(1, at).key(), journal.SpaceOpen.Seq(d.j.Head() + 5),
			}, sendKey(at, settled.sends[0].serial), ended)
			for _, s := range settled.sends {
				keys = append(keys, sendKey(at, s.serial))
			}
			for _, s := range accountSpaces {
				keys = append(keys, s.Seq(at))
			}
			for _, key := range keys {
				if value := get(key); value != nil {
					mend.Set(key, value)
				} else {
					mend.Delete(key)
				}
			}
			d.must(d.j.ApplySync(t.Context(), u))
			if r := d.audit(time.Time{}); r.AddsUp || len(r.Faults) == 0 || r.Wrong < len(r.Faults) {
				t.Errorf("%s: it adds up: %+v", name, r)
			}
			d.must(d.j.ApplySync(t.Context(), mend))
			if r := d.audit(time.Time{}); !r.AddsUp {
				t.Fatalf("%s is mended, and still: %q", name, r.Faults)
			}
		}
	})
}

func readBack(d *desk, seq journal.Seq) *entry {
	d.t.Helper()
	e, err := readAccount(d.j, seq)
	d.must(err)
	return e
}

// The story of a message, and of a reader's copy, has every step with its time.
func TestStoryHasEveryStep(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		seq, id := d.publish(1, 2, 3)
		routed := time.Now()
		d.connect(1, 2)
		d.sent(1, 1, seq)
		time.Sleep(time.Second)
		d.sent(2, 1, seq)
		d.ack(1, id)
		acked := time.Now()
		d.fall() // 2 is sent it again, 3 is given up
		d.drain()
		handed := time.Now()
		d.flushed()
		m, _, err := d.j.Message(seq)
		d.must(err)
		s, err := TellMessage(d.j, seq, m)
		d.must(err)
		near := func(what string, at, want time.Time) {
			t.Helper()
			if at.Sub(want).Abs() > 100*time.Millisecond {
				t.Errorf("%s at %s, want %s", what, at, want)
			}
		}
		if s.ID != id.String() || s.Pairs != 3 || s.Acked != 1 || s.Handed != 1 || s.Pending != 1 || len(s.Sends) != 3 || s.Sends[2].N != 2 {
			t.Fatalf("%+v", s)
		}
		near("routed", *s.Routed, routed)
		near("acked", s.AckedAt.First, acked)
		near("handed over", s.HandedAt.Last, handed)
		d.ack(3, id) // before it was ever sent
		d.sent(3, 1, seq)
		d.ack(3, id)
		late := time.Now()
		d.gone[2] = true
		d.l.Forget(2)
		d.flushed()
		for r, want := range map[journal.Reader]Copy{
			1: {State: StateAcked, Attempts: []Attempt{{1, routed, 1}}, AckedAt: &Times{acked, acked}},
			2: {
				State: StateForgotten, Attempts: []Attempt{{1, routed.Add(time.Second), 1}, {2, routed.Add(31 * time.Second), 1}},
				GoneAt: &Times{late, late},
			},
			3: {State: StateLate, Attempts: []Attempt{{1, late, 1}}, HandedAt: &Times{handed, handed}, AckedAt: &Times{late, late}},
			4: {State: StateNone},
		} {
			c, err := TellCopy(d.j, seq, m, r)
			d.must(err)
			if c.State != want.State || len(c.Attempts) != len(want.Attempts) {
				t.Errorf("reader %d: %+v, want %+v", r, c, want)
				continue
			}
			for i, a := range c.Attempts {
				near("attempt", a.At, want.Attempts[i].At)
			}
			for what, times := range map[string][2]*Times{
				"handed over": {c.HandedAt, want.HandedAt}, "acked": {c.AckedAt, want.AckedAt}, "forgotten": {c.GoneAt, want.GoneAt},
			} {
				if got, want := times[0], times[1]; got != nil && want != nil {
					near(what, got.First, want.First)
					near(what, got.Last, want.Last)
				} else if got != want {
					t.Errorf("reader %d: %s %+v, want %+v", r, what, got, want)
				}
			}
		}
	})
}
