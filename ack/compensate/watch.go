package compensate

import (
	"context"
	"time"

	"github.com/segmentio/kafka-go"
)

// watch gives up this membership of the group when a partition has records and
// its offset has not moved for long, whoever should read it: a new member makes
// the coordinator divide the partitions anew among those that are alive. The
// reader of a member may hang, and a coordinator may count on a member that
// vanished while it joined.
func (s *Service) watch(ctx context.Context, reader *kafka.Reader, leave func()) {
	seen := standings{patience: s.cfg.Kafka.patience()}
	for pause(ctx, lookAtEvery) {
		s.stateMu.Lock()
		places := s.state.places
		excused := s.state.full || s.state.database != nil || s.state.kafka != nil ||
			s.state.intake != nil && time.Since(s.state.intakeAt) < intakeMemory
		s.stateMu.Unlock()
		unread := seen.look(places, time.Now(), excused)
		for partition, p := range unread {
			s.metrics.unread.Inc()
			s.log.Warn("partition not read; the group is joined anew", "topic", s.cfg.Kafka.Topic, "partition", partition,
				"offset", p.committed, "first", p.begin, "end", p.end, "since", seen.patience)
			if p.committed > p.end { // the topic was made anew, or has lost its end: what is read again is known
				s.commit(ctx, reader, kafka.Message{Topic: s.cfg.Kafka.Topic, Partition: partition, Offset: p.begin - 1})
			}
		}
		if len(unread) > 0 {
			leave()
		}
	}
}

// patience is how long a partition with records may stand still: several times
// what the group needs to notice that a member is gone, and to divide its work.
func (k Kafka) patience() time.Duration { return 6 * k.Session }

// standings are since when each partition stands where it does.
type standings struct {
	patience time.Duration // fixed
	at       map[int]standing
}

type standing struct {
	committed int64
	since     time.Time
}

// look gives the partitions that stand still for longer than the patience with
// records to read, or behind their end. Nothing stands still while intake as a whole
// has a reason to wait.
func (w *standings) look(places map[int]place, now time.Time, excused bool) map[int]place {
	unread, at := make(map[int]place), make(map[int]standing)
	for partition, p := range places {
		was, known := w.at[partition]
		if !known || excused || was.committed != p.committed || p.lag() == 0 && p.committed <= p.end {
			was = standing{p.committed, now}
		}
		if now.Sub(was.since) > w.patience {
			unread[partition] = p
		}
		at[partition] = was
	}
	w.at = at
	return unread
}
