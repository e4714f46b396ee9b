package compensate

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"newswire/ack/compensate/store"
)

// cancellations reads the topic of cancellations into the database. Each instance
// reads all of it, and whoever comes first to a part takes it in: no membership
// of a group has to be in order before a notification can be held back.
//
// It promises to whoever asks known, that every cancellation which Kafka had when
// it was asked is in the database, where a claim meets it.
type cancellations struct {
	s     *Service // fixed
	topic string   // fixed

	wake  chan struct{} // known sends, answer receives; holds one
	moved chan struct{} // follow sends, catchUp receives; holds one

	mu      sync.Mutex // guards the rest
	pending *round     // the question that has not been put yet; nil: nobody waits
	fault   error      // why the last question has no answer
}

// round is one question to Kafka, on behalf of all who ask meanwhile.
type round struct {
	done chan struct{} // closed with the answer
	err  error
}

func newCancellations(s *Service) *cancellations {
	return &cancellations{s: s, topic: s.cfg.Kafka.cancelled(), wake: make(chan struct{}, 1), moved: make(chan struct{}, 1)}
}

const (
	cancelBytes   = 1 << 20               // of one fetch
	knownPatience = 5 * time.Second       // until a question counts as unanswered
	othersRead    = 20 * time.Millisecond // how long what another instance takes in goes unnoticed
)

// run reads every partition and answers until ctx ends.
func (c *cancellations) run(ctx context.Context) {
	var working sync.WaitGroup
	defer working.Wait()
	working.Go(func() { c.answer(ctx) })
	followed := make(map[int]bool)
	for ctx.Err() == nil {
		begins, err := c.s.offsetsOf(ctx, c.topic, kafka.FirstOffset)
		c.s.complain("cancellations not found", err)
		for partition := range begins {
			if !followed[partition] {
				followed[partition] = true
				working.Go(func() { c.follow(ctx, partition) })
			}
		}
		pause(ctx, metadataTTL)
	}
}

// follow reads one partition until ctx ends.
func (c *cancellations) follow(ctx context.Context, partition int) {
	next := int64(-1)
	for ctx.Err() == nil {
		var err error
		if next < 0 {
			next, err = c.begin(ctx, partition)
		} else {
			next, err = c.step(ctx, partition, next)
		}
		if err != nil && ctx.Err() == nil {
			next = -1
			c.s.complaints.warn("cancellations not read", "", err, "topic", c.topic, "partition", partition)
			pause(ctx, mendAfter)
		}
	}
}

// begin is where a partition is read on. Where the topic does not have that, it
// was made anew, or has dropped what nobody will ask for.
func (c *cancellations) begin(ctx context.Context, partition int) (int64, error) {
	positions, err := c.s.store.Positions(ctx, c.topic)
	if err != nil {
		return -1, err
	}
	begins, err := c.s.offsetsOf(ctx, c.topic, kafka.FirstOffset)
	if err != nil {
		return -1, err
	}
	ends, err := c.s.offsetsOf(ctx, c.topic, kafka.LastOffset)
	if err != nil {
		return -1, err
	}
	next, begin, end := positions[partition], begins[partition], ends[partition]
	if begin <= next && next <= end {
		return next, nil
	}
	if next > end {
		c.s.log.Warn("topic does not reach to where it was read and is read from its start", "topic", c.topic, "partition", partition, "offset", next, "end", end)
	}
	return begin, c.s.store.Reposition(ctx, store.Place{Topic: c.topic, Partition: partition}, next, begin)
}

// step takes in what lies at next, and says where to go on.
func (c *cancellations) step(ctx context.Context, partition int, next int64) (int64, error) {
	p, err := c.s.fetchPart(ctx, c.topic, partition, next, cancelBytes)
	if err != nil || p.next == next {
		return p.next, err
	}
	fresh := 0
	err = c.s.store.Cancel(ctx, store.Place{Topic: c.topic, Partition: partition}, p.next, func(read int64) ([]store.Cancellation, error) {
		cancels, err := c.parse(ctx, p.messages, read)
		fresh = len(cancels)
		return cancels, err
	})
	if err != nil {
		return next, err
	}
	c.s.metrics.intake.WithLabelValues(intakeCancellation).Add(float64(fresh))
	select {
	case c.moved <- struct{}{}:
	default:
	}
	return p.next, nil
}

// parse reads the cancellations from an offset on; what nobody can read becomes
// a dead letter.
func (c *cancellations) parse(ctx context.Context, messages []kafka.Message, from int64) (cancels []store.Cancellation, err error) {
	var dead []kafka.Message
	for _, m := range messages {
		if m.Offset < from || m.Value == nil { // read by another instance; a tombstone
			continue
		}
		one, err := parseCancel(m)
		if err != nil {
			dead = append(dead, malformed(m, err, time.Now()))
			continue
		}
		cancels = append(cancels, one)
	}
	return cancels, c.s.discard(ctx, dead)
}

// known returns once the database has every cancellation that Kafka had when it
// was called; an error says why that cannot be told.
func (c *cancellations) known(ctx context.Context) error {
	c.mu.Lock()
	if c.pending == nil {
		c.pending = &round{done: make(chan struct{})}
	}
	r := c.pending
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// answer puts the questions, one after the other, each for all who wait; and now
// and then one for readiness, so that a fault is seen before it holds anything up.
func (c *cancellations) answer(ctx context.Context) {
	tick := time.NewTicker(lookAtEvery)
	defer tick.Stop()
	for {
		select {
		case <-c.wake:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		c.mu.Lock()
		r := c.pending
		c.pending = nil
		c.mu.Unlock()
		asked, cancel := context.WithTimeout(ctx, knownPatience)
		err := c.catchUp(asked)
		cancel()
		c.mu.Lock()
		c.fault = err
		c.mu.Unlock()
		if r != nil {
			r.err = err
			close(r.done)
		}
	}
}

// lasting is why nothing is sent; nil: it is.
func (c *cancellations) lasting() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fault
}

// catchUp waits until the database has all that lies in Kafka now.
func (c *cancellations) catchUp(ctx context.Context) error {
	before, err := c.s.store.Positions(ctx, c.topic)
	if err != nil {
		return err
	}
	ends, err := c.s.offsetsOf(ctx, c.topic, kafka.LastOffset)
	if err != nil {
		return err
	}
	for partition, end := range ends {
		if before[partition] > end {
			return fmt.Errorf("partition %d of topic %s ends at offset %d and was read to %d: it is read again before anything is sent", partition, c.topic, end, before[partition])
		}
	}
	for read := before; ; {
		late := behind(c.topic, read, ends)
		if late == nil {
			return nil
		}
		timer := time.NewTimer(othersRead)
		select {
		case <-c.moved:
		case <-timer.C:
		case <-ctx.Done():
			return late
		}
		timer.Stop()
		if read, err = c.s.store.Positions(ctx, c.topic); err != nil {
			return err
		}
	}
}

// behind names a partition that is not read to its end.
func behind(topic string, read, ends map[int]int64) error {
	for partition, end := range ends {
		if read[partition] < end {
			return fmt.Errorf("partition %d of topic %s is read to offset %d of %d: nothing is sent before that is made up for", partition, topic, read[partition], end)
		}
	}
	return nil
}
