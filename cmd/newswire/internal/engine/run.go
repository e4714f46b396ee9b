package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// stage is one hop at work.
type stage struct {
	name string
	stop context.CancelFunc
	done chan struct{} // closed when it has returned
	err  error         // readable once done is closed
}

// stages runs hops, each with a context of its own, so that they can be
// stopped one after the other.
type stages struct {
	mu     sync.Mutex // guards failed
	failed error      // the first error of a hop
	broken context.CancelFunc
}

func (ss *stages) start(name string, run func(context.Context) error) *stage {
	ctx, stop := context.WithCancel(context.Background())
	s := &stage{name: name, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		if s.err = run(ctx); s.err != nil {
			ss.fail(fmt.Errorf("%s: %w", name, s.err))
		}
	}()
	return s
}

func (ss *stages) fail(err error) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.failed == nil {
		ss.failed = err
	}
	ss.broken()
}

// end stops a hop and waits until it has returned.
func (s *stage) end() {
	s.stop()
	<-s.done
}

// run starts the hops, last first, and stops them in flow order, each after
// the one before has returned. A hop that fails stops the engine; the listener
// does not: what is in the journal goes on being delivered without it.
func (e *engine) run(ctx context.Context) error {
	ctx, broken := context.WithCancel(ctx)
	defer broken()
	ss := &stages{broken: broken}
	store := ss.start("journal", e.journal.Run)
	pools := ss.start("pools", e.pools.Run)
	ledger := ss.start("ledger", func(ctx context.Context) error { return e.ledger.Run(ctx, courier{e.pools}) })
	sender := ss.start("hand-over", e.sender.Run)
	router := ss.start("router", e.router.Run)
	gate := ss.start("gateway", e.gateway.Run)
	readers := ss.start("readers", func(ctx context.Context) error {
		return e.readers.KeepTTL(ctx, e.cfg.Ack.ReaderTTL, presence{e.pools, e.ledger})
	})
	admin := ss.start("admin", e.admin.run)
	listener := ss.start("listener", e.intake)
	watch := ss.start("watch", e.watch)
	retention := ss.start("retention", e.expire)
	audits := ss.start("audit", e.audits)

	<-ctx.Done()
	e.log.Info("stopping")
	gate.stop()   // readers are told in time, whatever keeps those before it
	sender.stop() // it may take a while to hear from Kafka; nothing waits for it
	watch.end()
	retention.end()
	audits.end()
	listener.end()
	router.end()
	gate.end()
	readers.end()
	sender.end()
	ledger.end()
	pools.end()
	store.end()
	admin.end()
	e.log.Info("stopped")
	return errors.Join(ss.failed)
}

// expireEvery is how often old messages are looked for, at least.
const expireEvery = time.Minute

// expire removes what is older than the retention.
func (e *engine) expire(ctx context.Context) error {
	tick := time.NewTicker(min(expireEvery, max(e.cfg.Journal.Retention/20, time.Second)))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		gone, err := e.ledger.Expire(ctx, e.cfg.Journal.Retention)
		if err == nil {
			err = e.backlog.Expire(ctx)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if gone > 0 {
			e.log.Info("old entries have left the journal", "entries", gone, "oldest", e.journal.Oldest())
		}
	}
}
