// Package compensate reaches readers who did not acknowledge: it takes in what
// the engine handed to Kafka and notifies them through channels such as Web Push
// or SMS.
//
// It promises that every record ends in one outcome on each channel that it is
// meant for; that a channel which cannot tell a repeat is never asked twice for
// the same record, whatever dies when; and that what is not known to have
// arrived is said to be in doubt, and by nobody sent again unasked.
package compensate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"golang.org/x/sync/errgroup"

	"newswire/ack/compensate/policy"
	"newswire/ack/compensate/store"
)

// Service is one instance. New checks, Run works.
type Service struct {
	cfg     Config         // fixed
	policy  *policy.Policy // fixed
	store   *store.Store   // fixed
	metrics *metrics       // fixed
	log     *slog.Logger   // fixed
	lanes   []*lane        // fixed
	writer  *kafka.Writer  // fixed; dead letters
	client  *kafka.Client  // fixed; questions about offsets
	started time.Time      // fixed
	cancels *cancellations // fixed

	complaints *complaints // fixed

	hard context.Context // set by Run; ends when the time to drain is over

	stateMu sync.Mutex // guards state
	state   state
}

// state is what readiness and status tell.
type state struct {
	database error          // of the last question; nil: it answers and has the tables
	kafka    error          // of the last question
	intake   error          // why nothing could be read as a member of the group
	intakeAt time.Time      // when that was; while it lasts it recurs every few seconds
	waiting  map[string]int // deliveries without outcome, by channel
	doubtful int
	lag      int64
	places   map[int]place // where the group stands, as last asked; nobody changes it
	open     int           // deliveries without outcome: as last counted, and what was taken in since
	grown    int           // deliveries taken in since the start
	full     bool          // intake pauses: the backlog has reached its bound
	draining bool
}

// New checks the configuration and connects to nothing.
func New(cfg Config) (*Service, error) {
	cfg, err := cfg.complete()
	rules, policyErr := policy.New(cfg.Policy)
	if err = errors.Join(err, policyErr); err != nil {
		return nil, err
	}
	s := &Service{
		cfg: cfg, policy: rules, log: cfg.Log, started: time.Now(),
		metrics: newMetrics(cfg.Registry, cfg.names()), complaints: newComplaints(cfg.Log),
	}
	s.store, err = store.New(store.Config{DSN: cfg.DSN, Name: instance(), Lease: cfg.Lease, Ended: func(what store.Ended, n int) {
		s.metrics.outcomes.WithLabelValues(what.Channel, what.State, what.Reason).Add(float64(n))
	}})
	if err != nil {
		return nil, err
	}
	s.state.database, s.state.kafka = errNotAsked, errNotAsked
	transport := cfg.Kafka.transport()
	s.client = &kafka.Client{Addr: kafka.TCP(cfg.Kafka.Brokers...), Transport: transport}
	s.writer = cfg.Kafka.writer(transport)
	s.cancels = newCancellations(s)
	for _, name := range cfg.names() {
		s.lanes = append(s.lanes, newLane(s, name))
	}
	return s, nil
}

var errNotAsked = errors.New("not asked yet")

// Close ends connections; Run has returned, or was never called.
func (s *Service) Close() error {
	err := s.writer.Close()
	if t, ok := s.client.Transport.(*kafka.Transport); ok {
		t.CloseIdleConnections()
	}
	s.store.Close()
	return err
}

// Run serves until ctx ends, then lets what is under way end in order: intake
// first, the calls that were begun, their outcomes, the listeners last.
func (s *Service) Run(ctx context.Context) error {
	apiListener, err := listen("compensate.listen", s.cfg.Listen)
	if err != nil {
		return err
	}
	adminListener, err := listen("compensate.admin", s.cfg.Admin)
	if err != nil {
		return errors.Join(err, apiListener.Close())
	}
	servers, stopServers := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServers()
	var outer errgroup.Group
	outer.Go(func() error { return serve(servers, apiListener, newAPI(s), s.cfg.TLS, s.log) })
	outer.Go(func() error { return serve(servers, adminListener, s.adminHandler(), nil, s.log) })
	if s.cfg.Follow != nil {
		outer.Go(func() error { return s.cfg.Follow(servers) })
	}
	if s.cfg.OnReady != nil {
		s.cfg.OnReady(Addresses{apiListener.Addr().String(), adminListener.Addr().String()})
	}
	s.log.Info("compensation started", "api", apiListener.Addr().String(), "admin", adminListener.Addr().String(), "channels", s.cfg.names())
	s.work(ctx)
	stopServers()
	return outer.Wait()
}

// work takes in, sends and tends until ctx ends.
func (s *Service) work(ctx context.Context) {
	writes, stopWrites := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWrites()
	var cut context.CancelFunc
	s.hard, cut = context.WithCancel(writes)
	defer cut()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(s.cfg.Drain, cut) })()
	var writing, working sync.WaitGroup
	writing.Go(func() { _ = s.store.Run(writes) }) // ends with writes, without an error
	for _, l := range s.lanes {
		working.Go(func() { l.run(ctx) })
	}
	working.Go(func() {
		if s.awaitTopics(ctx) {
			working.Go(func() { s.cancels.run(ctx) })
			s.consume(ctx)
		}
	})
	working.Go(func() { s.tend(ctx) })
	working.Go(func() { s.look(ctx) })
	working.Go(func() { s.bury(ctx) })
	<-ctx.Done()
	s.stateMu.Lock()
	s.state.draining = true
	s.stateMu.Unlock()
	working.Wait()
	last, cancel := context.WithTimeout(writes, s.cfg.Drain)
	defer cancel()
	if err := s.store.Leave(last); err != nil {
		s.log.Warn("deliveries are not given back; another instance takes them over after the lease", "err", err)
	}
	stopWrites()
	writing.Wait()
	s.log.Info("compensation stopped")
}

// listen takes an address; the error names the configuration key and the remedy.
func listen(key, address string) (net.Listener, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s: cannot listen on %s: %w; choose another address or end the process that has it", key, address, err)
	}
	return ln, nil
}

// pause waits; false means that ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// shutdownPatience bounds how long requests may take to end.
const shutdownPatience = 5 * time.Second
