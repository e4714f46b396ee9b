package compensate

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"newswire/ack/compensate/channel"
	"newswire/ack/compensate/policy"
	"newswire/ack/compensate/store"
)

// lane makes the calls of one channel. Each has its own, with its own breaker
// and places, so that a provider that is away stops nobody else.
type lane struct {
	s       *Service           // fixed
	name    string             // fixed
	channel channel.Channel    // fixed
	props   channel.Properties // fixed
	rules   policy.Channel     // fixed
	cfg     Lane               // fixed
	breaker *gobreaker.TwoStepCircuitBreaker[struct{}]
	wake    chan struct{} // intake sends, run receives; holds one
	resume  atomic.Int64  // Unix nanoseconds until which the provider told all of us to wait
}

func newLane(s *Service, name string) *lane {
	cfg, rules := s.cfg.Lanes[name], s.policy.Channel(name)
	l := &lane{
		s: s, name: name, channel: s.cfg.Channels[name], props: s.cfg.Channels[name].Properties(),
		rules: rules, cfg: cfg, wake: make(chan struct{}, 1),
	}
	if l.props.Timeout <= 0 {
		l.props.Timeout = defaultTimeout
	}
	if l.props.AtOnce > 0 {
		l.cfg.Concurrency = min(l.cfg.Concurrency, l.props.AtOnce) // what is claimed shall be under way, not queue for a connection
	}
	l.breaker = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Name: name, MaxRequests: 1, Timeout: cfg.Rest,
		ReadyToTrip: func(c gobreaker.Counts) bool { return int(c.ConsecutiveFailures) >= cfg.Trip },
		IsExcluded:  func(err error) bool { return errors.Is(err, errNotCalled) },
		OnStateChange: func(_ string, from, to gobreaker.State) {
			s.log.Warn("channel changes", "channel", name, "from", from.String(), "to", to.String())
		},
	})
	return l
}

const (
	lookEvery      = 250 * time.Millisecond // for deliveries that have become due, or that another instance took in
	defaultTimeout = 10 * time.Second       // of one call
	mendAfter      = time.Second            // between attempts at a database that does not answer
)

// stoppedFor says how long the lane makes no calls; 0: it does.
func (l *lane) stoppedFor() time.Duration {
	wait := time.Until(time.Unix(0, l.resume.Load()))
	if l.breaker.State() == gobreaker.StateOpen {
		return max(wait, lookEvery)
	}
	return max(wait, 0)
}

// stop makes the lane make no calls for so long, or longer if it was told so before.
func (l *lane) stop(wait time.Duration) {
	until := time.Now().Add(wait).UnixNano()
	for was := l.resume.Load(); was < until; was = l.resume.Load() {
		if l.resume.CompareAndSwap(was, until) {
			return
		}
	}
}

// places is how many readers may be served at once: one while it is not known
// whether the provider is back.
func (l *lane) places() int {
	if l.breaker.State() == gobreaker.StateHalfOpen {
		return 1
	}
	return l.cfg.Concurrency
}

// run takes what is due and sends it until ctx ends and what was begun has ended.
func (l *lane) run(ctx context.Context) {
	var busy sync.WaitGroup
	defer busy.Wait()
	freed := make(chan struct{}, l.cfg.Concurrency)
	var working atomic.Int64
	for ctx.Err() == nil {
		wait := l.stoppedFor()
		l.s.metrics.stopped.WithLabelValues(l.name).Set(oneIf(wait > 0))
		free := l.places() - int(working.Load())
		if wait > 0 || free < max(1, l.places()/4) {
			l.await(ctx, freed, max(wait, lookEvery))
			continue
		}
		taken, devices, err := l.take(ctx, free)
		if err != nil {
			l.complain("deliveries not taken", err)
			busy.Wait() // then whatever is taken is what an answer was lost for
			if pause(ctx, mendAfter) {
				_ = l.s.store.Release(ctx, l.name) // else the next look fails as well
			}
			continue
		}
		for reader, deliveries := range byReader(taken) {
			working.Add(1)
			busy.Go(func() {
				l.serve(ctx, deliveries, devices[reader])
				working.Add(-1)
				select {
				case freed <- struct{}{}:
				default:
				}
			})
		}
		if len(taken) == 0 {
			l.await(ctx, nil, lookEvery)
		}
	}
}

func (l *lane) await(ctx context.Context, freed <-chan struct{}, longest time.Duration) {
	timer := time.NewTimer(longest)
	defer timer.Stop()
	wake := l.wake
	if freed != nil {
		wake = nil // there is no place for more
	}
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-freed:
	case <-wake:
	}
}

func (l *lane) complain(what string, err error) {
	l.s.complaints.warn(what, l.name, err, "channel", l.name)
}

// turn waits until the channel's rate, which is that of all instances, has room
// for a call.
func (l *lane) turn(ctx context.Context) error {
	for l.rules.PerSecond > 0 {
		turn, err := l.s.store.Turn(l.name, l.rules.PerSecond)
		if err != nil {
			return err
		}
		if !pause(ctx, turn.In) {
			return ctx.Err()
		}
		if turn.Granted {
			break
		}
	}
	return nil
}

// hurry says that something may be due.
func (l *lane) hurry() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *lane) take(ctx context.Context, readers int) ([]store.Delivery, map[string][]store.Device, error) {
	taken, err := l.s.store.Take(ctx, l.name, readers)
	if err != nil || len(taken) == 0 || !l.props.WithDevices {
		return taken, nil, err
	}
	var names []string
	for reader := range byReader(taken) {
		names = append(names, reader)
	}
	devices, err := l.s.store.DevicesOf(ctx, names)
	return taken, devices, err
}

func byReader(ds []store.Delivery) map[string][]store.Delivery {
	of := make(map[string][]store.Delivery)
	for _, d := range ds {
		of[d.Reader] = append(of[d.Reader], d)
	}
	return of
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// settle writes one outcome for some deliveries, for as long as that takes; what
// cannot be written when the service ends becomes doubtful, or waits again.
func (l *lane) settle(ds []store.Delivery, state string, r channel.Result) {
	outcomes := make([]store.Settled, len(ds))
	for i, d := range ds {
		outcomes[i] = store.Settled{Delivery: d, State: state, Reason: storable(r.Reason), Detail: storable(r.Detail), ProviderID: storable(r.ProviderID)}
	}
	deadline := time.Now().Add(l.s.cfg.Lease * 4)
	for {
		err := l.s.store.Settle(outcomes)
		if err == nil {
			return
		}
		l.s.complaints.warn("outcome not written", l.name, err, "channel", l.name, "ce_id", ds[0].CeID, "outcome", state)
		if time.Now().After(deadline) || !pause(l.s.hard, mendAfter) {
			return // another instance finds it
		}
	}
}

// storable is a provider's word as the database takes it.
func storable(s string) string {
	return policy.Cut(strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", ""), maxDetail)
}

// maxDetail bounds what is kept of a provider's own words, in characters.
const maxDetail = 200

// putBack lets deliveries wait again.
func (l *lane) putBack(ds []store.Delivery, again store.Again) {
	deadline := time.Now().Add(l.s.cfg.Lease * 4)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), l.s.cfg.Lease)
		err := l.s.store.PutBack(ctx, ds, again)
		cancel()
		if err == nil {
			l.s.metrics.putBack.WithLabelValues(l.name, again.Reason).Add(float64(len(ds)))
			return
		}
		l.complain("deliveries not put back", err)
		if time.Now().After(deadline) || !pause(l.s.hard, mendAfter) {
			return
		}
	}
}

// Bounds of the wait before another attempt.
const (
	firstRetry = time.Second
	lastRetry  = 3 * time.Minute
)

// backoff is the wait before the next attempt: as told, else doubling from a
// second to three minutes, with full jitter in the upper half.
func backoff(told time.Duration, attempts int) time.Duration {
	if told > 0 {
		return told
	}
	most := min(firstRetry<<min(attempts, 10), lastRetry)
	return most/2 + rand.N(most/2)
}

// errNotCalled tells the breaker that it has learnt nothing.
var errNotCalled = errors.New("no call was made")

// errStopped ends a reader's turn: the rest was put back.
var errStopped = errors.New("turn ended")
