// Package fanout decides who shall have each message.
//
// Shards own the tags; each knows, for its tags, who follows and who mutes.
// The router asks them about every journal entry, in the journal's order, and
// hands each message with its audience to the ledger and to the pools in that
// same order. What it has handed on is recorded with the ledger's entry in one
// update, so that after a crash it takes up behind it, with the sets as they
// stood there.
package fanout

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"newswire/fanout/journal"
	"newswire/fanout/journal/fault"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"golang.org/x/sync/errgroup"
)

// Ledger keeps account of who has which message.
type Ledger interface {
	// Open begins the account of a message, with its record in u. It is called
	// once for every message since the last start, in Seq order. The audience
	// is shared from now on: nobody changes it.
	// A backfilled message has no account: who is in its audience has it unread,
	// and that is all.
	Open(u *journal.Update, seq journal.Seq, m *journal.Message, audience *roaring.Bitmap)
	// Forget ends what is owed to a reader who was deleted, behind all that it
	// was in the audience of.
	Forget(r journal.Reader)
	// Late gives a reader who follows something for the first time backfilled
	// messages that were routed before that.
	Late(r journal.Reader, seqs *roaring.Bitmap) error
	// Routed is called before it is recorded how far everything is routed, with
	// the update that Open added to since the last call and that will be written
	// now: it writes what Open and Late have left to write.
	Routed(u *journal.Update) error
}

// Pools carry messages to the readers who are connected.
type Pools interface {
	// Deliver queues a message for those of its audience who are connected. It
	// is called in Seq order, behind the ledger's Open, and may block a while:
	// then the journal holds what follows.
	Deliver(d Delivery)
}

// Delivery is a message and who shall have it.
type Delivery struct {
	Seq      journal.Seq
	Message  *journal.Message
	Audience *roaring.Bitmap // shared: read only
}

// Router gives every message its audience.
type Router struct {
	j      *journal.Journal
	ledger Ledger
	pools  Pools
	log    *slog.Logger
	m      *metrics
	shards []*shard
	out    [][]task    // by shard, made and not sent; owned by ask
	start  journal.Seq // the journal's head when the router was made
	from   journal.Seq // routed before this run
	old    *backfill   // owned by collect

	routed journal.Watermark // raised by collect
}

// Limits of the work between reading an entry and handing it on.
const (
	readBatch = 256  // entries taken from the journal at a time
	joinQueue = 1024 // entries asked about and not yet handed on
	// recordAfter is how long routed messages may wait for more to be recorded
	// with them. The accounts of those that are settled wait for it too, and what
	// a crash takes of them is sent again.
	recordAfter = 100 * time.Millisecond
)

// NewRouter loads the audience index as it stood behind the last message that
// was routed. It starts nothing.
func NewRouter(shards int, j *journal.Journal, home Home, l Ledger, p Pools, log *slog.Logger, reg prometheus.Registerer) (*Router, error) {
	r := &Router{j: j, ledger: l, pools: p, log: log, start: j.Head()}
	for i := range shards {
		r.shards = append(r.shards, newShard(i, shards))
	}
	r.out = make([][]task, shards)
	r.m = newMetrics(reg, r.shards)
	err := r.load(home)
	if err == nil {
		r.old, err = loadBackfill(j)
	}
	if err != nil {
		return nil, fmt.Errorf("load audience index: %w", err)
	}
	r.routed.Raise(r.from)
	return r, nil
}

// load reads every reader's record, which stands at the journal's head, and
// takes back the changes that are not routed yet.
func (r *Router) load(home Home) error {
	err := r.j.View(func(v journal.View) error {
		value, ok, err := v.Get(journal.SpaceRouted.Key())
		if ok {
			r.from = journal.Seq(binary.BigEndian.Uint64(value))
		}
		return err
	})
	if err != nil {
		return err
	}
	err = home.Records(func(_ string, rec Record) error {
		r.applyAll(&journal.Change{Reader: rec.Number, Follow: rec.Permit.matched(rec.Follow), Mute: rec.Mute})
		return nil
	})
	if err != nil {
		return err
	}
	changes, err := r.changes()
	if err != nil {
		return err
	}
	for _, c := range slices.Backward(changes) {
		r.applyAll(&journal.Change{
			Reader: c.Reader, Follow: c.Unfollow, Unfollow: c.Follow, Mute: c.Unmute, Unmute: c.Mute,
		})
	}
	return nil
}

// changes gives those that are not routed yet. It reads a few entries at a
// time: a large commit may stand among them.
func (r *Router) changes() (changes []*journal.Change, err error) {
	for after := r.from; after < r.start; after += readBatch {
		entries, err := r.j.Range(after, min(after+readBatch, r.start))
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if e.Change != nil {
				changes = append(changes, e.Change)
			}
		}
	}
	return changes, nil
}

// applyAll makes a change at once, while no shard runs.
func (r *Router) applyAll(c *journal.Change) {
	own := func(tag string) *shard { return r.shards[shardOf(tag, len(r.shards))] }
	for _, tag := range c.Follow {
		own(tag).addTag(tag, c.Reader, (*audience).followers)
	}
	for _, tag := range c.Unfollow {
		own(tag).dropTag(tag, c.Reader, (*audience).followers)
	}
	for _, tag := range c.Mute {
		own(tag).addTag(tag, c.Reader, (*audience).muters)
	}
	for _, tag := range c.Unmute {
		own(tag).dropTag(tag, c.Reader, (*audience).muters)
	}
}

// concerned tells which shards own a tag of the change.
func (r *Router) concerned(c *journal.Change) []bool {
	marks := make([]bool, len(r.shards))
	for _, tags := range [][]string{c.Follow, c.Unfollow, c.Mute, c.Unmute} {
		for _, tag := range tags {
			marks[shardOf(tag, len(r.shards))] = true
		}
	}
	return marks
}

// Run routes what the journal holds and what it gets. When ctx ends it takes
// no more entries, hands on those that it has taken, and returns. The error is
// the journal's.
func (r *Router) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var g errgroup.Group
	for _, s := range r.shards {
		g.Go(func() error { s.run(); return nil })
	}
	joins := make(chan *join, joinQueue) // ask sends, collect receives; ask closes it
	g.Go(func() error {
		defer func() {
			close(joins)
			for _, s := range r.shards {
				close(s.tasks)
			}
		}()
		return r.ask(ctx, joins)
	})
	g.Go(func() error {
		err := r.collect(context.WithoutCancel(ctx), joins)
		stop()
		for range joins { // after an error: ask must not wait for collect
		}
		return err
	})
	if err := g.Wait(); err != nil {
		return fmt.Errorf("route: %w", err)
	}
	return nil
}

// Routed gives the Seq up to which every message was handed to the pools.
func (r *Router) Routed() journal.Seq { return r.routed.At() }

// WaitRouted returns once everything up to seq was handed to the pools.
func (r *Router) WaitRouted(ctx context.Context, seq journal.Seq) error {
	return r.routed.Wait(ctx, seq)
}

// CaughtUp tells whether everything that the journal held at the start was
// routed.
func (r *Router) CaughtUp() bool { return r.Routed() >= r.start }

// ask reads entries and asks the shards about them, in order.
func (r *Router) ask(ctx context.Context, joins chan<- *join) error {
	for after := r.from; ; {
		entries, err := r.j.Next(ctx, after, readBatch)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		batch := make([]join, len(entries))
		for i, e := range entries {
			batch[i].entry = e
			r.dispatch(&batch[i])
		}
		r.send()
		for i := range batch {
			joins <- &batch[i]
		}
		after = entries[len(entries)-1].Seq
	}
}

// send gives the shards the tasks that dispatch has made: each all of its own at
// once, as a hand-over costs as much as some answers.
func (r *Router) send() {
	for i, s := range r.shards {
		if tasks := r.out[i]; len(tasks) > 0 {
			s.waiting.Add(int64(len(tasks)))
			s.tasks <- tasks
			r.out[i] = nil
		}
	}
}

// dispatch makes a task for each concerned shard.
func (r *Router) dispatch(jn *join) {
	give := func(shard int, t task) { r.out[shard] = append(r.out[shard], t) }
	if c := jn.entry.Change; c != nil {
		for i, concerned := range r.concerned(c) {
			if concerned {
				jn.waiting.Add(1)
				give(i, task{join: jn})
			}
		}
		return
	}
	names := lookups(jn.entry.Message.Tags, jn.entry.Message.Former)
	jn.waiting.Add(len(names))
	for i, name := range names {
		give(shardOf(name, len(r.shards)), task{join: jn, tags: names[i : i+1]})
	}
}

// collect hands messages on in order. Whenever it has nothing else to do, or
// enough to write, it records how far it is together with the ledger's new
// entries.
func (r *Router) collect(ctx context.Context, joins <-chan *join) error {
	var u journal.Update
	recorded, last := r.from, time.Now()
	record := func() error {
		last = time.Now()
		at := r.routed.At()
		if at == recorded {
			return nil
		}
		u.Set(journal.SpaceRouted.Key(), binary.BigEndian.AppendUint64(nil, uint64(at)))
		err := r.ledger.Routed(&u)
		if err == nil {
			err = r.j.Apply(ctx, u, nil)
		}
		u, recorded = journal.Update{}, at
		return err
	}
	for {
		var jn *join
		more := true
		select {
		case jn, more = <-joins:
		default:
			if err := record(); err != nil {
				return err
			}
			jn, more = <-joins
		}
		if !more {
			return record()
		}
		jn.waiting.Wait()
		if err := r.handOn(&u, jn); err != nil {
			return err
		}
		if u.Full() || time.Since(last) > recordAfter {
			if err := record(); err != nil {
				return err
			}
		}
	}
}

// handOn opens the message's account and delivers it. Who follows something
// for the first time gets what was backfilled.
func (r *Router) handOn(u *journal.Update, jn *join) error {
	if c := jn.entry.Change; c != nil && c.First {
		if seqs := r.old.match(c.Follow, c.Muted); !seqs.IsEmpty() {
			if err := r.ledger.Late(c.Reader, seqs); err != nil {
				return err
			}
		}
	}
	if m := jn.entry.Message; m != nil {
		if m.Backfilled {
			if err := r.old.add(u, jn.entry.Seq, m); err != nil {
				return err
			}
		}
		audience := jn.audience()
		r.ledger.Open(u, jn.entry.Seq, m, audience)
		r.pools.Deliver(Delivery{jn.entry.Seq, m, audience})
		fault.Point(fault.HandedOn)
		r.m.messages.Inc()
		r.m.audience.Observe(float64(audience.GetCardinality()))
	} else if c := jn.entry.Change; c.Forget {
		r.ledger.Forget(c.Reader)
	}
	r.routed.Raise(jn.entry.Seq)
	return nil
}

type metrics struct {
	messages prometheus.Counter
	audience prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, shards []*shard) *metrics {
	auto := promauto.With(reg)
	for _, s := range shards {
		auto.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "newswire_shard_queue",
			Help:        "Entries waiting for a tag shard's answer.",
			ConstLabels: prometheus.Labels{"shard": strconv.Itoa(s.number)},
		}, func() float64 { return float64(s.waiting.Load()) })
	}
	return &metrics{
		messages: auto.NewCounter(prometheus.CounterOpts{
			Name: "newswire_fanout_messages_total",
			Help: "Messages that were given their audience.",
		}),
		audience: auto.NewHistogram(prometheus.HistogramOpts{
			Name:    "newswire_fanout_audience",
			Help:    "Readers in a message's audience.",
			Buckets: prometheus.ExponentialBuckets(1, 10, 7),
		}),
	}
}
