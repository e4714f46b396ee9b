package compensate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"

	"newswire/ack/compensate/policy"
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
		messages, values := readable(batch)
		records, err := s.plan(ctx, messages, values)
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

func readable(batch []kafka.Message) (messages []policy.Message, values [][]byte) {
	for _, m := range batch {
		if parsed, err := parseRecord(m); err == nil { // what is not is a dead letter for ever
			messages, values = append(messages, parsed), append(values, m.Value)
		}
	}
	return messages, values
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
	return s.read(ctx, s.cfg.Kafka.Topic, *r, from, func(batch []kafka.Message) error {
		messages, _ := readable(batch)
		return s.foresee(ctx, messages, tell)
	})
}

func (s *Service) foresee(ctx context.Context, messages []policy.Message, tell func(Foreseen) error) error {
	var readers, ids []string
	for _, m := range messages {
		readers, ids = append(readers, m.Reader), append(ids, m.CeID)
	}
	devices, err := s.store.DevicesOf(ctx, readers)
	if err != nil {
		return err
	}
	known, err := s.store.Known(ctx, ids)
	if err != nil {
		return err
	}
	now := time.Now()
	for _, m := range messages {
		plan := s.policy.Plan(m, targets(devices[m.Reader]), 0, now)
		f := Foreseen{CeID: m.CeID, Reader: m.Reader, Outcome: plan.Reason, Urgent: plan.Urgent}
		if outcome, there := known[m.CeID]; there {
			if f.Outcome = outcome; outcome == "" {
				f.Outcome = "at work"
			}
			plan.Targets = nil
		}
		if len(plan.Targets) == 0 {
			if err := tell(f); err != nil {
				return err
			}
		}
		for _, t := range plan.Targets {
			f.Outcome, f.Channel, f.Device, f.Due = "send", t.Channel, t.Device, nil
			language := ""
			for _, d := range devices[m.Reader] {
				if d.ID != t.Device {
					continue
				}
				language = d.Language
				if until, quiet := policy.Quiet(now, d.TimeZone, d.QuietFrom, d.QuietTo); quiet && !plan.Urgent && !s.policy.Channel(t.Channel).AnyTime {
					f.Due = &until
				}
			}
			p := s.cfg.Channels[t.Channel].Properties()
			words, err := s.policy.Word([]policy.Message{m}, language, p.Title, p.Body)
			if err != nil {
				return err
			}
			f.Title, f.Body, f.URL = words.Title, words.Body, words.URL
			if err := tell(f); err != nil {
				return err
			}
		}
	}
	return nil
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
	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers: s.cfg.Kafka.Brokers, Dialer: s.cfg.Kafka.dialer(), Topic: topic, Partition: partition,
		MinBytes: 1, MaxBytes: fetchBytes, MaxWait: fetchWait, QueueCapacity: queued,
	})
	defer reader.Close()
	if err := reader.SetOffset(first); err != nil {
		return err
	}
	for next := first; next < last; {
		var batch []kafka.Message
		for size := 0; next < last && len(batch) < mostRecords && size < mostBytes; {
			// At the end of a compacted partition the last offsets may be of no record.
			wait, cancel := context.WithTimeout(ctx, readPatience)
			m, err := reader.FetchMessage(wait)
			cancel()
			if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
				next = last
				break
			}
			if err != nil {
				return err
			}
			next, size = m.Offset+1, size+len(m.Value)
			if !to.IsZero() && !m.Time.Before(to) {
				next = last // a partition's times rise, as far as the brokers' clocks do
				break
			}
			batch = append(batch, m)
		}
		if len(batch) > 0 {
			if err := each(batch); err != nil {
				return err
			}
		}
	}
	return nil
}

// readPatience is how long a record that should be there is waited for.
const readPatience = 10 * time.Second
