package ack

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"newswire/fanout/journal"

	"github.com/RoaringBitmap/roaring/v2"
	"pgregory.net/rapid"
)

// office is a ledger with the backlog beside it, and what each reader is owed
// in a naive model.
type office struct {
	t    tester
	dir  string
	d    *desk
	a    *Accounts
	old  []journal.Seq // backfilled
	ids  map[journal.Seq]journal.ID
	owed map[uint32]map[journal.Seq]bool
	sent map[uint32]map[journal.Seq]bool
}

func newOffice(t tester, dir string) *office {
	o := &office{t: t, dir: dir, ids: make(map[journal.Seq]journal.ID), owed: make(map[uint32]map[journal.Seq]bool), sent: make(map[uint32]map[journal.Seq]bool)}
	for r := range uint32(modelReaders) {
		o.owed[r+1], o.sent[r+1] = make(map[journal.Seq]bool), make(map[journal.Seq]bool)
	}
	o.open()
	return o
}

func (o *office) open() {
	o.t.Helper()
	o.d = newDesk(o.t, o.dir, usual)
	b, err := NewBacklog(o.d.j)
	o.d.must(err)
	o.a = NewAccounts(o.d.l, b)
}

func (o *office) restart() {
	o.d.close()
	o.open()
}

// publish routes a message as the router does.
func (o *office) publish(backfilled bool, audience ...uint32) {
	o.t.Helper()
	o.d.lsn++
	m := journal.Message{ID: idAt(o.d.lsn), Action: journal.Publish, Tags: []string{"tech"}, Source: "public.news", Key: []byte(`{"id":1}`), Data: []byte(`{}`), Backfilled: backfilled}
	o.d.must(o.d.j.Append(context.Background(), journal.Commit{Epoch: 1, LSN: o.d.lsn, End: o.d.lsn, Messages: []journal.Message{m}}))
	seq := o.d.j.Head()
	var u journal.Update
	if backfilled {
		record, err := json.Marshal(journal.Backfilled{ID: m.ID.String(), Tags: m.Tags})
		o.d.must(err)
		u.Set(journal.SpaceBackfill.Seq(seq), record)
		o.old = append(o.old, seq)
	}
	o.a.Open(&u, seq, &m, roaring.BitmapOf(audience...))
	o.d.must(o.a.Routed(&u))
	o.d.apply(u)
	o.ids[seq] = m.ID
	for _, r := range audience {
		o.owed[r][seq] = true
	}
}

func (o *office) late(r uint32, seqs []journal.Seq) {
	o.t.Helper()
	few := roaring.New()
	for _, seq := range seqs {
		few.Add(uint32(seq))
		o.owed[r][seq] = true
	}
	o.d.must(o.a.Late(journal.Reader(r), few))
	o.d.must(o.a.Routed(new(journal.Update)))
}

func (o *office) check() {
	o.t.Helper()
	for r, owed := range o.owed {
		want := slices.Sorted(maps.Keys(owed))
		for _, limit := range []int{1, 3, 1000} {
			var got []journal.Seq
			for after := journal.Seq(0); ; {
				found, through, err := o.a.Unread(journal.Reader(r), after, limit)
				o.d.must(err)
				for _, a := range found {
					if got = append(got, a.Seq); a.N != 1 || !a.Replay {
						o.t.Errorf("reader %d: %+v is no replay of the first attempt", r, a)
					}
				}
				if after = through; len(found) < limit {
					break
				}
			}
			if !slices.Equal(got, want) {
				o.t.Errorf("reader %d has not read %v, want %v (asked %d at a time)", r, got, want, limit)
			}
		}
	}
}

func TestBacklogAsInTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "newswire-ack")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		o := newOffice(t, dir)
		defer func() { o.d.close() }()
		reader := rapid.Uint32Range(1, modelReaders)
		some := func(of []journal.Seq) []journal.Seq {
			if len(of) == 0 {
				return nil
			}
			return rapid.SliceOfNDistinct(rapid.SampledFrom(of), 0, min(len(of), 4), rapid.ID).Draw(t, "seqs")
		}
		all := func() []journal.Seq { return slices.Sorted(maps.Keys(o.ids)) }
		t.Repeat(map[string]func(*rapid.T){
			"": func(*rapid.T) { o.check() },
			"publish": func(t *rapid.T) {
				audience := rapid.SliceOfNDistinct(reader, 0, 3, rapid.ID).Draw(t, "audience")
				o.publish(rapid.Bool().Draw(t, "backfilled"), audience...)
			},
			"late": func(t *rapid.T) {
				r := reader.Draw(t, "reader")
				fresh := slices.DeleteFunc(slices.Clone(o.old), func(seq journal.Seq) bool { return o.sent[r][seq] })
				o.late(r, some(fresh))
			},
			"sent": func(t *rapid.T) {
				r := reader.Draw(t, "reader")
				var attempts []journal.Attempt
				for _, seq := range some(slices.Sorted(maps.Keys(o.owed[r]))) {
					attempts = append(attempts, journal.Attempt{Seq: seq, N: 1, Replay: true})
					o.sent[r][seq] = true
				}
				o.d.must(o.a.Sent(journal.Reader(r), attempts))
			},
			"ack": func(t *rapid.T) {
				r := reader.Draw(t, "reader")
				ids := []journal.ID{idAt(1 << 40)} // nobody's
				for _, seq := range some(all()) {
					ids = append(ids, o.ids[seq])
					if o.sent[r][seq] { // else it changes nothing
						delete(o.owed[r], seq)
					}
				}
				o.d.must(o.a.Ack(journal.Reader(r), ids))
			},
			"read": func(t *rapid.T) {
				r := reader.Draw(t, "reader")
				var seqs []journal.Seq
				for _, seq := range some(slices.Sorted(maps.Keys(o.owed[r]))) {
					seqs = append(seqs, seq)
					o.sent[r][seq] = true
					delete(o.owed[r], seq)
				}
				o.d.must(o.a.Read(journal.Reader(r), seqs))
			},
			"restart": func(*rapid.T) { o.restart() },
		})
		o.restart()
		o.check()
	})
}

func TestNothingBackfilledIsPending(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		b, err := NewBacklog(d.j)
		d.must(err)
		o := &office{t: t, d: d, a: NewAccounts(d.l, b), ids: make(map[journal.Seq]journal.ID), owed: map[uint32]map[journal.Seq]bool{1: {}, 2: {}}}
		o.publish(true, 1)
		o.publish(true)
		o.late(2, o.old)
		d.wantCounts(Counts{})
		d.must(o.a.Sent(1, []journal.Attempt{{Seq: o.old[0], N: 1}}))
		time.Sleep(10 * d.l.cfg.total())
		d.wantCounts(Counts{})
		if overs, cancels := d.drain(); len(overs)+len(cancels) > 0 {
			t.Errorf("handed over: %v %v", overs, cancels)
		}
		o.check()
	})
}

func TestNothingIsOwedToWhoWasForgotten(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		b, err := NewBacklog(d.j)
		d.must(err)
		o := &office{t: t, d: d, a: NewAccounts(d.l, b), ids: make(map[journal.Seq]journal.ID), owed: map[uint32]map[journal.Seq]bool{1: {}, 2: {}}}
		o.publish(true, 1, 2)
		o.a.Forget(1)
		d.must(o.a.Routed(new(journal.Update)))
		o.owed[1] = map[journal.Seq]bool{}
		o.check()
		d.must(d.j.ApplySync(t.Context(), journal.Update{}))
		d.must(d.j.View(func(v journal.View) error {
			_, left, err := v.Get(journal.SpaceBacklog.Reader(1))
			if left {
				t.Error("the record of who was forgotten is left")
			}
			return err
		}))
	})
}

func TestBacklogLeavesWithItsMessages(t *testing.T) {
	bubble(t, func(t *testing.T, d *desk) {
		b, err := NewBacklog(d.j)
		d.must(err)
		o := &office{t: t, d: d, a: NewAccounts(d.l, b), ids: make(map[journal.Seq]journal.ID), owed: map[uint32]map[journal.Seq]bool{1: {}}}
		for range 3 {
			o.publish(true, 1)
		}
		d.must(d.j.ApplySync(t.Context(), journal.Update{}))
		if _, err := d.l.Expire(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		d.must(b.Expire(t.Context()))
		d.must(d.j.ApplySync(t.Context(), journal.Update{}))
		if found, _, err := o.a.Unread(1, 0, 10); err != nil || len(found) > 0 {
			t.Errorf("unread of messages that are gone: %v, %v", found, err)
		}
		err = d.j.View(func(v journal.View) error {
			for _, s := range []journal.Space{journal.SpaceBackfill, journal.SpaceBacklog} {
				if key, left, err := v.Last(s); err != nil || left {
					t.Errorf("the record %x is left (%v)", key, err)
				}
			}
			return nil
		})
		d.must(err)
	})
}
