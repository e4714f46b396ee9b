package compensate

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/segmentio/kafka-go"

	"newswire/ack/compensate/policy"
	"newswire/ack/compensate/store"
)

// Range is a part of the topic by the time of its records; a zero To is the end
// that the topic has when the reading begins.
type Range struct {
	From, To time.Time
}

// Replayed counts what a replay has come to.
type Replayed struct {
	Read   int // records looked at
	Opened int // that will be sent: new, or certainly never sent before
}

// Replay takes a part of the topic in again. What was sent, is in doubt, was
// cancelled or is stale stays as it is; what was refused, went to nobody or is
// not known is opened, and any running instance sends it.
func (s *Service) Replay(ctx context.Context, r Range) (Replayed, error) {
	return s.reopen(ctx, s.cfg.Kafka.Topic, r)
}

// ReplayDeadLetters is Replay for the topic of dead letters, all of it.
func (s *Service) ReplayDeadLetters(ctx context.Context) (Replayed, error) {
	return s.reopen(ctx, s.cfg.Kafka.deadLetters(), Range{})
}

func (s *Service) reopen(ctx context.Context, topic string, r Range) (done Replayed, err error) {
	if err := s.store.Check(ctx); err != nil {
		return done, err
	}
	err = s.read(ctx, topic, r, nil, func(batch []kafka.Message) error {
		records, err := s.plan(ctx, readable(batch))
		if err != nil {
			return err
		}
		opened, err := s.store.Reopen(ctx, records)
		done.Read += len(batch)
		done.Opened += opened
		return err
	})
	return done, err
}

func readable(batch []kafka.Message) (all []received) {
	for _, m := range batch {
		if parsed, err := parseRecord(m); err == nil { // what is not is a dead letter for ever
			all = append(all, received{parsed, m})
		}
	}
	return all
}

// Foreseen is what would become of one record.
type Foreseen struct {
	CeID    string     `json:"ce_id"`
	Reader  string     `json:"reader"`
	Outcome string     `json:"outcome"` // send; or why not: what it ended as already, no_device, expired …
	Channel string     `json:"channel,omitempty"`
	Device  string     `json:"device,omitempty"`
	Title   string     `json:"title,omitempty"`
	Body    string     `json:"body,omitempty"`
	URL     string     `json:"url,omitempty"`
	Due     *time.Time `json:"due,omitempty"` // not now: the end of the reader's quiet hours
	Urgent  bool       `json:"urgent,omitempty"`
}

// DryRun tells what would become of the records that the group has not taken in,
// or of those in r where it is given. It sends nothing, writes nothing and takes
// nothing from the group. Caps and digests, which depend on the moment, are not
// foreseen.
func (s *Service) DryRun(ctx context.Context, r *Range, tell func(Foreseen) error) error {
	if err := s.store.Check(ctx); err != nil {
		return err
	}
	var from map[int]int64
	if r == nil {
		ends, err := s.offsets(ctx, kafka.LastOffset)
		if err != nil {
			return err
		}
		if from, err = s.committed(ctx, ends); err != nil {
			return err
		}
		r = &Range{}
	}
	back, err := s.takenBack(ctx)
	if err != nil {
		return err
	}
	return s.read(ctx, s.cfg.Kafka.Topic, *r, from, func(batch []kafka.Message) error {
		return s.foresee(ctx, readable(batch), back, tell)
	})
}

func (s *Service) foresee(ctx context.Context, messages []received, back map[string]bool, tell func(Foreseen) error) error {
	var readers, ids []string
	for _, m := range messages {
		readers, ids = append(readers, m.message.Reader), append(ids, m.message.CeID)
	}
	devices, err := s.store.DevicesOf(ctx, readers)
	if err != nil {
		return err
	}
	known, err := s.store.Known(ctx, ids)
	if err != nil {
		return err
	}
	forgotten, err := s.store.Forgotten(ctx, readers)
	if err != nil {
		return err
	}
	now := time.Now()
	for _, m := range messages {
		plan := s.policy.Plan(m.message, targets(devices[m.message.Reader]), 0, now)
		f := Foreseen{CeID: m.message.CeID, Reader: m.message.Reader, Outcome: plan.Reason, Urgent: plan.Urgent}
		if outcome, there := known[m.message.CeID]; there {
			if f.Outcome = outcome; outcome == "" {
				f.Outcome = "at work"
			}
			plan.Targets = nil
		} else if back[m.message.CeID] {
			f.Outcome, plan.Targets = "cancelled", nil
		} else if m.message.HandedOver.Before(forgotten[m.message.Reader]) {
			f.Outcome, plan.Targets = outcomeForgotten, nil
		}
		if len(plan.Targets) == 0 {
			if err := tell(f); err != nil {
				return err
			}
		}
		for _, t := range plan.Targets {
			one, err := s.foreseen(f, m.message, t, devices[m.message.Reader], now)
			if err != nil {
				return err
			}
			if err := tell(one); err != nil {
				return err
			}
		}
	}
	return nil
}

// foreseen is what a device, or a reader's channel without devices, would get.
func (s *Service) foreseen(f Foreseen, m policy.Message, t policy.Target, devices []store.Device, now time.Time) (Foreseen, error) {
	f.Outcome, f.Channel, f.Device = "send", t.Channel, t.Device
	language := ""
	for _, d := range devices {
		if d.ID != t.Device {
			continue
		}
		language = d.Language
		if until, quiet := policy.Quiet(now, d.TimeZone, d.QuietFrom, d.QuietTo); quiet && !f.Urgent && !s.policy.Channel(t.Channel).AnyTime {
			f.Due = &until
		}
	}
	p := s.cfg.Channels[t.Channel].Properties()
	words, err := s.policy.Word([]policy.Message{m}, language, p.Title, p.Body)
	f.Title, f.Body, f.URL = words.Title, words.Body, words.URL
	return f, err
}

// EachDoubtful gives what is in doubt, the oldest first.
func (s *Service) EachDoubtful(ctx context.Context, each func(Doubtful) error) error {
	if err := s.store.Check(ctx); err != nil {
		return err
	}
	return s.store.EachDoubtful(ctx, each)
}

// read gives each the records of a topic, partition by partition, from the given
// offsets or from r.From, up to r.To or the end that there is now.
func (s *Service) read(ctx context.Context, topic string, r Range, from map[int]int64, each func([]kafka.Message) error) error {
	begin, err := s.offsetsOf(ctx, topic, kafka.FirstOffset)
	if err != nil {
		return err
	}
	end, err := s.offsetsOf(ctx, topic, kafka.LastOffset)
	if err != nil {
		return err
	}
	if !r.From.IsZero() {
		if from, err = s.offsetsOf(ctx, topic, r.From.UnixMilli()); err != nil {
			return err
		}
	}
	for partition, last := range end {
		first := begin[partition]
		if at, given := from[partition]; given {
			if at < 0 { // nothing is as young as that
				continue
			}
			first = max(first, at)
		}
		if first < last {
			if err := s.readPartition(ctx, topic, partition, first, last, r.To, each); err != nil {
				return fmt.Errorf("read partition %d of topic %s: %w", partition, topic, err)
			}
		}
	}
	return nil
}

func (s *Service) readPartition(ctx context.Context, topic string, partition int, first, last int64, to time.Time, each func([]kafka.Message) error) error {
	for next := first; next < last; {
		p, err := s.fetchPart(ctx, topic, partition, next, mostBytes)
		if err != nil {
			return err
		}
		if p.next == next {
			return nil // the end has moved back
		}
		next = p.next
		wanted := p.messages
		for i, m := range wanted {
			if m.Offset >= last || !to.IsZero() && !m.Time.Before(to) {
				wanted, next = wanted[:i], last // a partition's times rise, as far as the brokers' clocks do
				break
			}
		}
		for batch := range slices.Chunk(wanted, mostRecords) {
			if err := each(batch); err != nil {
				return err
			}
		}
	}
	return nil
}

// takenBack reads what lies in the topic of cancellations and in no database yet.
func (s *Service) takenBack(ctx context.Context) (map[string]bool, error) {
	from, err := s.store.Positions(ctx, s.cfg.Kafka.cancelled())
	if err != nil {
		return nil, err
	}
	ids := make(map[string]bool)
	err = s.read(ctx, s.cfg.Kafka.cancelled(), Range{}, from, func(batch []kafka.Message) error {
		for _, m := range batch {
			if c, err := parseCancel(m); err == nil { // what is not is a dead letter for ever
				ids[c.CeID] = true
			}
		}
		return nil
	})
	return ids, err
}
