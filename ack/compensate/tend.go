package compensate

import (
	"context"
	"time"

	"newswire/ack/compensate/store"
)

const (
	advanceEvery = 250 * time.Millisecond
	lookAtEvery  = 2 * time.Second // questions to database and Kafka for readiness, status and metrics
	lookPatience = 10 * time.Second
	purgeEvery   = time.Minute
	analyzeEvery = 2 * time.Second
	forgetEvery  = time.Hour
	buryEvery    = time.Second
)

// tend moves records on whose step reached nobody, settles what became stale, and
// takes over from instances that are gone.
func (s *Service) tend(ctx context.Context) {
	var dedupes []string
	for _, l := range s.lanes {
		if l.props.Dedupes {
			dedupes = append(dedupes, l.name)
		}
	}
	var recovered, analyzed, purged, forgotten time.Time
	for pause(ctx, advanceEvery) {
		moved, err := s.store.Advance(ctx, s.next)
		s.complain("records not moved on", err)
		if moved > 0 {
			for _, l := range s.lanes {
				l.hurry()
			}
		}
		_, err = s.store.Expire(ctx)
		s.complain("stale deliveries not settled", err)
		if now := time.Now(); now.Sub(recovered) > s.cfg.Lease/3 {
			recovered = now
			s.recover(ctx, dedupes)
		}
		if now := time.Now(); now.Sub(analyzed) > analyzeEvery {
			analyzed = now
			s.complain("statistics not gathered", s.store.Analyze(ctx))
		}
		if now := time.Now(); now.Sub(purged) > purgeEvery {
			more, err := s.store.Purge(ctx, now.Add(-s.cfg.Retention))
			s.complain("old receipts not removed", err)
			if !more {
				purged = now
			}
		}
		if now := time.Now(); s.cfg.DeviceTTL > 0 && now.Sub(forgotten) > forgetEvery {
			forgotten = now
			gone, err := s.store.ForgetDevices(ctx, now.Add(-s.cfg.DeviceTTL))
			s.complain("old devices not deleted", err)
			if gone > 0 {
				s.log.Info("devices deleted that nothing has reached", "devices", gone, "for", s.cfg.DeviceTTL)
			}
		}
	}
}

func (s *Service) recover(ctx context.Context, dedupes []string) {
	r, err := s.store.Recover(ctx, dedupes)
	s.complain("deliveries of other instances not recovered", err)
	s.metrics.recovered.WithLabelValues("waiting").Add(float64(r.Taken))
	s.metrics.recovered.WithLabelValues("repeated").Add(float64(r.Repeated))
	s.metrics.recovered.WithLabelValues(stateDoubtful).Add(float64(r.Doubtful))
	if r != (store.Recovered{}) {
		s.log.Warn("took over from an instance that is gone", "waiting", r.Taken, "repeated", r.Repeated, "doubtful", r.Doubtful)
	}
}

// complain logs a fault of the database, which the next round may not have.
func (s *Service) complain(what string, err error) { s.complaints.warn(what, "", err) }

// look asks database and Kafka how they are.
func (s *Service) look(ctx context.Context) {
	for {
		begin := time.Now()
		s.stateMu.Lock()
		grown := s.state.grown
		s.stateMu.Unlock()
		asked, cancel := context.WithTimeout(ctx, lookPatience)
		waiting, doubtful, database := s.count(asked)
		places, kafkaErr := s.places(asked)
		cancel()
		if ctx.Err() == nil {
			s.tell(database, kafkaErr, waiting, grown, doubtful, places)
		}
		// Counting a large backlog shall not be what the database is busy with.
		if !pause(ctx, max(lookAtEvery, 10*time.Since(begin))) {
			return
		}
	}
}

// count asks the database whether it has the tables, and what they hold.
func (s *Service) count(ctx context.Context) (waiting map[string]int, doubtful int, err error) {
	if err = s.store.Check(ctx); err != nil {
		return nil, 0, err
	}
	if waiting, err = s.store.Waiting(ctx); err != nil {
		return nil, 0, err
	}
	doubtful, err = s.store.InDoubt(ctx)
	return waiting, doubtful, err
}

func (s *Service) tell(database, kafkaErr error, waiting map[string]int, grown, doubtful int, places map[int]place) {
	total, lag := 0, int64(0)
	for _, p := range places {
		lag += p.lag()
	}
	for _, n := range waiting {
		total += n
	}
	s.stateMu.Lock()
	total += s.state.grown - grown // what came while it was counted; some of it is counted twice, until the next time
	mended := database == nil && s.state.database != nil && s.state.database != errNotAsked
	s.state.database, s.state.kafka = database, kafkaErr
	if database == nil {
		s.state.waiting, s.state.doubtful, s.state.open, s.state.full = waiting, doubtful, total, total >= s.cfg.Backlog
	}
	if kafkaErr == nil {
		s.state.lag, s.state.places = lag, places
	}
	s.stateMu.Unlock()
	if mended {
		s.complaints.over()
		s.log.Info("database answers again")
	}
	if database == nil {
		for _, l := range s.lanes {
			s.metrics.waiting.WithLabelValues(l.name).Set(float64(waiting[l.name]))
		}
		s.metrics.doubtful.Set(float64(doubtful))
	}
	if kafkaErr == nil {
		s.metrics.lag.Set(float64(lag))
	}
}

// bury writes dead letters for what was refused for good.
func (s *Service) bury(ctx context.Context) {
	for pause(ctx, buryEvery) {
		for {
			told, err := s.store.Bury(ctx, s.writeLetters)
			s.complain("dead letters not written", err)
			s.metrics.dead.Add(float64(told))
			if told == 0 {
				break
			}
		}
	}
}
