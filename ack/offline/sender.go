package offline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"
	"golang.org/x/sync/errgroup"

	"newswire/ack"
	"newswire/fanout/journal/fault"
)

const (
	// maxBatch is how many records are unresolved at a time: enough to make
	// the wait for the replicas cheap, few enough to repeat after a fault.
	maxBatch = 512
	// maxBytes keeps a batch under the 1,048,588 bytes that brokers take by
	// default, counted before compression.
	maxBytes = 1_000_000
	// minBytes is what every record fits once its data, tags and key are left
	// out: names of reader and table are bounded.
	minBytes = 8 << 10

	minBackoff = 100 * time.Millisecond
	maxBackoff = 5 * time.Second

	// callTimeout bounds a batch with the question where its partitions are,
	// which may wait for a connection first.
	callTimeout = dialTimeout + metadataTTL + writeTimeout + 5*time.Second
	// stopGrace is how long the batch in flight may go on after the end, so
	// that it need not be repeated; the process has 10 s to exit.
	stopGrace = 5 * time.Second
)

// Sender empties an Outbox into Kafka: one batch at a time, so that what comes
// behind a failure waits for it.
type Sender struct {
	outbox   Outbox
	brokers  []string // fixed by New; the real address of an embedded broker
	cfg      Config
	log      *slog.Logger
	metrics  *metrics
	health   *health
	embedded net.Listener // nil without an embedded broker; Run serves and closes it

	link      *link
	transport *kafka.Transport
	writer    *kafka.Writer

	encode encoder // owned by deliver
	limit  int     // owned by deliver: bytes of a batch, less once a topic has refused
}

// New checks cfg and connects to nothing. For an embedded broker it takes the
// address, so that a port in use is known at once and Brokers tells the truth;
// Run serves it and gives it back.
func New(cfg Config, o Outbox, log *slog.Logger, reg prometheus.Registerer) (*Sender, error) {
	if cfg.Source == "" {
		cfg.Source = "newswire"
	}
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s := &Sender{
		outbox:  o,
		brokers: cfg.Brokers,
		cfg:     cfg,
		log:     log,
		health:  &health{log: log},
		link:    newLink(),
		encode:  encoder{topic: cfg.Topic, source: cfg.Source},
		limit:   maxBytes,
	}
	var err error
	if s.transport, err = newTransport(cfg, nil, s.link); err != nil {
		return nil, err
	}
	if cfg.Embedded() {
		if s.embedded, err = listenEmbedded(cfg.EmbeddedListen); err != nil {
			return nil, err
		}
		s.brokers = []string{s.embedded.Addr().String()}
	}
	s.writer = newWriter(s.brokers, s.transport)
	s.metrics = newMetrics(reg)
	return s, nil
}

// Brokers are the addresses that clients of the topic connect to.
func (s *Sender) Brokers() []string { return s.brokers }

// Ready is nil while Kafka takes hand-overs, else the reason. Without Kafka
// the service is degraded, not unready: the ledger keeps what waits.
func (s *Sender) Ready() error { return s.health.err() }

// Run hands over until ctx ends; a batch in flight then has stopGrace to be
// acknowledged. It returns an error only for the outbox or an embedded broker
// that cannot start: with Kafka it has patience.
func (s *Sender) Run(ctx context.Context) error {
	if s.embedded != nil {
		broker, err := startEmbedded(s.embedded, filepath.Join(s.cfg.Dir, "kafka"), s.cfg.Topic)
		if err != nil {
			return err
		}
		defer broker.Close()
	}
	defer s.disconnect()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { s.probe(ctx); return nil })
	g.Go(func() error { return s.deliver(ctx) })
	return g.Wait()
}

func (s *Sender) disconnect() {
	s.link.close() // first: what was given up must not keep the writer waiting
	s.writer.Close()
	s.transport.CloseIdleConnections()
}

// probe asks for the topic until Kafka has answered once, so that a Kafka that
// cannot be reached is known before the first hand-over needs it.
func (s *Sender) probe(ctx context.Context) {
	if s.embedded != nil {
		return
	}
	var noted *outage
	for failures := 0; ; failures++ {
		warnings, err := inspectTopics(ctx, s.cfg, nil)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			for _, w := range warnings {
				s.log.WarnContext(ctx, "Kafka topic needs attention", "topic", s.cfg.Topic, "finding", w)
			}
			s.health.swap(ctx, noted, nil)
			return
		}
		out := newOutage(err)
		s.health.swap(ctx, noted, out)
		noted = out
		if !pause(ctx, failures) {
			return
		}
	}
}

func (s *Sender) deliver(ctx context.Context) error {
	for failures := 0; ; {
		handOvers, cancels, err := s.outbox.Next(ctx, maxBatch)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("read outbox: %w", err)
		}
		fault.Point(fault.Producing)
		r := s.send(ctx, handOvers, cancels)
		fault.Point(fault.Produced)
		if err := s.outbox.Settle(r.handed, r.cancelled); err != nil {
			return fmt.Errorf("settle outbox: %w", err)
		}
		fault.Point(fault.SettledKafka)
		s.count(r, handOvers, cancels)
		switch {
		case ctx.Err() != nil:
			return nil
		case r.complete():
			failures = 0
			continue
		case r.any():
			failures = 0
		default:
			// Kafka took nothing: look at the cluster afresh instead of
			// trusting for metadataTTL what has just proved wrong.
			s.transport.CloseIdleConnections()
		}
		if !pause(ctx, failures) {
			return nil
		}
		failures++
	}
}

// result is what Kafka has acknowledged of one batch of the outbox.
type result struct {
	handed               []ack.Outcome
	truncated, cancelled []bool
}

func (r result) complete() bool {
	return !slices.ContainsFunc(r.handed, func(o ack.Outcome) bool { return o != ack.Taken }) && !slices.Contains(r.cancelled, false)
}

func (r result) any() bool {
	return slices.Contains(r.handed, ack.Taken) || slices.Contains(r.cancelled, true)
}

// send produces hand-overs and cancellations apart, so that a fault of one
// topic holds up only its own. Pieces go one after the other and stop at the
// first that is not acknowledged whole: nothing may overtake.
func (s *Sender) send(ctx context.Context, handOvers []ack.HandOver, cancels []ack.Cancel) result {
	r := result{
		handed:    slices.Repeat([]ack.Outcome{ack.Refused}, len(handOvers)), // what is not sent is not there
		truncated: make([]bool, len(handOvers)),
		cancelled: make([]bool, len(cancels)),
	}
	now := time.Now()
	var out *outage
	s.pieces(len(handOvers), func(i int) (m kafka.Message) {
		m, r.truncated[i] = s.encode.handOver(handOvers[i], now, s.limit)
		return m
	}, func(from int, piece []kafka.Message) bool {
		failed := s.produce(ctx, piece, func(i int, err error) { r.handed[from+i] = outcomeOf(err) })
		out = firstOutage(out, failed)
		return failed == nil && ctx.Err() == nil
	})
	if ctx.Err() == nil {
		s.pieces(len(cancels), func(i int) kafka.Message {
			return s.encode.cancel(cancels[i])
		}, func(from int, piece []kafka.Message) bool {
			failed := s.produce(ctx, piece, func(i int, err error) { r.cancelled[from+i] = err == nil })
			out = firstOutage(out, failed)
			return failed == nil && ctx.Err() == nil
		})
	}
	if ctx.Err() == nil {
		s.health.set(ctx, out) // the end of the process is no outage
	}
	return r
}

// pieces makes n records and gives them to send in pieces no larger than the
// limit, until send returns false. Only one piece is in memory.
func (s *Sender) pieces(n int, record func(i int) kafka.Message, send func(from int, piece []kafka.Message) bool) {
	var piece []kafka.Message
	size, from := 0, 0
	for i := range n {
		m := record(i)
		if len(piece) == maxBatch || len(piece) > 0 && size+recordSize(m) > s.limit {
			if !send(from, piece) {
				return
			}
			piece, size, from = piece[:0], 0, i
		}
		piece, size = append(piece, m), size+recordSize(m)
	}
	if len(piece) > 0 {
		send(from, piece)
	}
}

// produce writes one piece and tells ended what Kafka said of each record; nil
// is that it has it. It returns why the rest is not known to be there.
func (s *Sender) produce(ctx context.Context, piece []kafka.Message, ended func(i int, err error)) *outage {
	begun := time.Now()
	err := s.write(ctx, piece)
	s.metrics.produce.Observe(time.Since(begun).Seconds())
	var each kafka.WriteErrors
	if err == nil {
		each = make(kafka.WriteErrors, len(piece))
	} else if !errors.As(err, &each) {
		for range piece {
			each = append(each, err)
		}
	}
	var out *outage
	for i := range piece {
		ended(i, each[i])
		if each[i] != nil && out == nil {
			out = newOutage(each[i])
		}
	}
	if out != nil {
		s.metrics.errors.WithLabelValues(string(out.kind)).Inc()
		s.shrink(ctx, out)
	}
	return out
}

// shrink halves what a batch may hold when a topic takes less than brokers do
// by default; otherwise one large record would hold up all behind it for ever.
func (s *Sender) shrink(ctx context.Context, out *outage) {
	if out.kind != kindTooLarge || s.limit == minBytes {
		return
	}
	s.limit = max(s.limit/2, minBytes)
	s.log.WarnContext(ctx, "Kafka refused a batch as too large; batches are now smaller, and records that do not fit go without their data",
		"topic", s.cfg.Topic, "bytes", s.limit, "err", out.err)
}

// write gives piece to Kafka and waits for the acknowledgement. The end of ctx
// does not cancel it, for then nobody would know what Kafka has; after
// stopGrace it is given up all the same.
func (s *Sender) write(ctx context.Context, piece []kafka.Message) error {
	call, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	done := make(chan error, 1) // the writer below sends once; buffered so that it can leave
	go func() { done <- s.writer.WriteMessages(call, piece...) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	grace := time.NewTimer(stopGrace)
	defer grace.Stop()
	select {
	case err := <-done:
		return err
	case <-grace.C:
		cancel()
		return <-done
	}
}

func (s *Sender) count(r result, handOvers []ack.HandOver, cancels []ack.Cancel) {
	for i, h := range handOvers {
		if r.handed[i] != ack.Taken {
			continue
		}
		s.metrics.handedOver.WithLabelValues(string(h.Reason)).Inc()
		if r.truncated[i] {
			s.metrics.truncated.Inc()
		}
	}
	for i, c := range cancels {
		if r.cancelled[i] {
			s.metrics.cancelled.WithLabelValues(c.Cause).Inc()
		}
	}
}

func firstOutage(a, b *outage) *outage {
	if a != nil {
		return a
	}
	return b
}

// pause waits a random part of a time that doubles with each failure, so that
// many senders do not come back to Kafka at once. False means that ctx ended.
func pause(ctx context.Context, failures int) bool {
	ceiling := maxBackoff
	if failures < 10 {
		ceiling = min(maxBackoff, minBackoff<<failures)
	}
	timer := time.NewTimer(rand.N(ceiling))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
