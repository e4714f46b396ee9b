package compensate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/segmentio/kafka-go"

	"newswire/ack/compensate/policy"
	"newswire/ack/compensate/store"
	"newswire/fanout/journal/fault"
)

// Bounds of one batch of the intake.
const (
	mostRecords = 500
	mostBytes   = 4 << 20
	gather      = 5 * time.Millisecond // how long a batch waits for company
)

// consume takes records in until ctx ends, as one member of the group after
// another: one that leaves a partition unread is given up.
func (s *Service) consume(ctx context.Context) {
	for ctx.Err() == nil {
		s.member(ctx)
	}
}

// member takes records in until ctx ends, or a partition of the topic is found
// unread. An offset is committed once the database has what came before it.
func (s *Service) member(ctx context.Context) {
	ctx, leave := context.WithCancel(ctx)
	reader := s.group()
	var watching sync.WaitGroup
	watching.Go(func() { s.watch(ctx, reader, leave) })
	defer func() {
		leave()
		watching.Wait()
		if err := reader.Close(); err != nil {
			s.log.Warn("group not left in good order", "group", s.cfg.Kafka.Group, "err", err)
		}
	}()
	for s.room(ctx) {
		batch, err := fetch(ctx, reader)
		if err != nil && ctx.Err() == nil {
			s.reading(err)
			s.complaints.warn("topic not read", "", err, "topic", s.cfg.Kafka.Topic, "group", s.cfg.Kafka.Group)
			pause(ctx, mendAfter)
		}
		if len(batch) == 0 {
			continue
		}
		if !s.insist(ctx, batch) {
			return // what was not taken in is read again
		}
		fault.Point("compensate.stored")
		s.commit(ctx, reader, batch...)
		fault.Point("compensate.committed")
		for _, l := range s.lanes {
			l.hurry()
		}
	}
}

// insist takes a batch in, however often that fails; false means that ctx has ended.
func (s *Service) insist(ctx context.Context, batch []kafka.Message) bool {
	for ctx.Err() == nil {
		err := s.takeIn(ctx, batch)
		s.reading(err)
		if err == nil {
			return true
		}
		s.complaints.warn("records not taken in", "", err, "records", len(batch))
		pause(ctx, mendAfter)
	}
	return false
}

// commitPatience is how long a commit may take: while the group has no
// coordinator it would last for ever.
const commitPatience = 10 * time.Second

// commit says how far the group has read. One that fails costs a repeat, which
// changes nothing.
func (s *Service) commit(ctx context.Context, reader *kafka.Reader, messages ...kafka.Message) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitPatience)
	defer cancel()
	if err := reader.CommitMessages(ctx, messages...); err != nil {
		s.log.Debug("offsets not committed", "err", err)
	}
}

// patientAttempts are those whose failure is no news: Kafka may start with us.
const patientAttempts = 10

// awaitTopics waits until both topics are there; false means that ctx has ended.
func (s *Service) awaitTopics(ctx context.Context) bool {
	for attempt := 1; ; attempt++ {
		err := s.ensureTopics(ctx)
		if err == nil {
			return true
		}
		s.reading(err)
		if attempt%patientAttempts == 0 {
			s.complain("topics not there yet", err)
		}
		if t, ok := s.client.Transport.(*kafka.Transport); ok {
			t.CloseIdleConnections() // it would remember for seconds that nobody answered
		}
		if !pause(ctx, mendAfter) {
			return false
		}
	}
}

// reading remembers whether the group can be read, for readiness.
func (s *Service) reading(err error) {
	s.stateMu.Lock()
	defer s.stateMu.Unlock()
	if err == nil || !errors.Is(err, context.Canceled) {
		s.state.intake, s.state.intakeAt = err, time.Now()
	}
}

// room waits while the backlog is at its bound: Kafka keeps the rest.
func (s *Service) room(ctx context.Context) bool {
	for ctx.Err() == nil {
		s.stateMu.Lock()
		full := s.state.full
		s.stateMu.Unlock()
		if !full {
			return true
		}
		pause(ctx, lookEvery)
	}
	return false
}

// fetch waits for a record and takes what comes right behind it.
func fetch(ctx context.Context, reader *kafka.Reader) (batch []kafka.Message, err error) {
	m, err := reader.FetchMessage(ctx)
	if err != nil {
		return nil, err
	}
	batch = append(batch, m)
	size := len(m.Value)
	more, cancel := context.WithTimeout(ctx, gather)
	defer cancel()
	for len(batch) < mostRecords && size < mostBytes {
		if m, err = reader.FetchMessage(more); err != nil {
			break
		}
		batch = append(batch, m)
		size += len(m.Value)
	}
	return batch, nil
}

// takeIn writes a batch to the database, whole; taken in again it changes
// nothing.
func (s *Service) takeIn(ctx context.Context, batch []kafka.Message) error {
	var all []received
	var dead []kafka.Message
	for _, m := range batch {
		parsed, err := parseRecord(m)
		if err != nil {
			dead = append(dead, malformed(m, err, time.Now()))
			continue
		}
		all = append(all, received{parsed, m})
	}
	if err := s.discard(ctx, dead); err != nil {
		return err
	}
	return s.add(ctx, all)
}

// received is a record as it was read and as it lay in Kafka.
type received struct {
	message policy.Message
	kafka   kafka.Message
}

// discard writes the dead letters of records that nobody can read.
func (s *Service) discard(ctx context.Context, dead []kafka.Message) error {
	if len(dead) == 0 {
		return nil
	}
	if err := s.writer.WriteMessages(ctx, dead...); err != nil {
		return fmt.Errorf("write %d dead letters to %s: %w", len(dead), s.cfg.Kafka.deadLetters(), err)
	}
	s.metrics.dead.Add(float64(len(dead)))
	s.metrics.intake.WithLabelValues(intakeMalformed).Add(float64(len(dead)))
	return nil
}

func (s *Service) add(ctx context.Context, all []received) error {
	if len(all) == 0 {
		return nil
	}
	records, err := s.plan(ctx, all)
	if err != nil {
		return err
	}
	done, err := s.store.Add(ctx, records)
	if err != nil {
		return err
	}
	s.metrics.intake.WithLabelValues(intakeNew).Add(float64(done.New - done.Cancelled))
	s.metrics.intake.WithLabelValues(intakeRepeated).Add(float64(done.Repeated))
	s.metrics.intake.WithLabelValues(intakeCancelled).Add(float64(done.Cancelled))
	s.grew(records)
	return nil
}

// grew counts what was taken in on top of the last count, so that the bound holds
// between two of them.
func (s *Service) grew(records []store.Record) {
	s.stateMu.Lock()
	defer s.stateMu.Unlock()
	for _, r := range records {
		s.state.open += len(r.Targets)
		s.state.grown += len(r.Targets)
	}
	s.state.full = s.state.full || s.state.open >= s.cfg.Backlog
}

// plan says where each message goes first.
func (s *Service) plan(ctx context.Context, all []received) ([]store.Record, error) {
	readers := make([]string, len(all))
	for i, r := range all {
		readers[i] = r.message.Reader
	}
	devices, err := s.store.DevicesOf(ctx, readers)
	if err != nil {
		return nil, err
	}
	forgotten, err := s.store.Forgotten(ctx, readers)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	records := make([]store.Record, len(all))
	for i, a := range all {
		m := a.message
		r := store.Record{
			CeID: m.CeID, Reader: m.Reader, Article: m.Article(), Action: m.Action, Value: a.kafka.Value, Origin: originOf(a.kafka),
		}
		records[i] = planned(r, s.policy.Plan(m, targets(devices[m.Reader]), 0, now))
		if m.HandedOver.Before(forgotten[m.Reader]) {
			records[i].Targets, records[i].Outcome = nil, outcomeForgotten
		}
	}
	return records, nil
}

// next is plan for records whose steps so far reached nobody.
func (s *Service) next(ctx context.Context, records []store.Record) ([]store.Record, error) {
	readers := make([]string, len(records))
	for i, r := range records {
		readers[i] = r.Reader
	}
	devices, err := s.store.DevicesOf(ctx, readers)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	for i, r := range records {
		m, err := policy.Parse(r.Value)
		if err != nil {
			return nil, fmt.Errorf("record %s was taken in and cannot be read: %w", r.CeID, err)
		}
		records[i] = planned(r, s.policy.Plan(m, targets(devices[r.Reader]), r.Step, now))
		if records[i].Outcome == policy.ReasonNoDevice {
			records[i].Outcome = outcomeUnreached
		}
		if records[i].Outcome != "" {
			s.metrics.outcomes.WithLabelValues("none", records[i].Outcome, "").Inc()
		}
	}
	return records, nil
}

// outcomeForgotten is a record of before its reader wanted to be forgotten.
const outcomeForgotten = "forgotten"

// outcomeUnreached is a record that no step of its route could deliver.
const outcomeUnreached = "unreached"

func planned(r store.Record, p policy.Plan) store.Record {
	r.Expires, r.Urgent, r.Step, r.Outcome, r.Targets = p.Expires, p.Urgent, p.Step, p.Reason, nil
	for _, t := range p.Targets {
		number, _ := strconv.ParseInt(t.Device, 10, 64) // our own numbers, or none
		r.Targets = append(r.Targets, store.Target{Channel: t.Channel, Device: number})
	}
	return r
}

func targets(devices []store.Device) []policy.Target {
	all := make([]policy.Target, len(devices))
	for i, d := range devices {
		all[i] = policy.Target{Channel: d.Channel, Device: d.ID}
	}
	return all
}

// parseRecord reads a record of the topic of hand-overs, of which every part that
// is kept by name must be one that the database can keep.
func parseRecord(m kafka.Message) (policy.Message, error) {
	parsed, err := policy.Parse(m.Value)
	if err != nil {
		return parsed, err
	}
	if id := headerOf(m, "ce_id"); id != "" {
		parsed.CeID = id
	}
	if !keepable(parsed.CeID, maxCeID) || !keepable(parsed.Reader, maxReader) || !keepable(parsed.Action, maxReader) || !keepable(parsed.Article(), len(m.Value)) {
		return parsed, errors.New("read record: its ce_id, reader, action or key is too long or has characters that cannot be kept")
	}
	return parsed, nil
}

// Bounds of what is kept by name, in bytes.
const (
	maxReader = 256
	maxCeID   = 28 + 1 + maxReader
)

func keepable(s string, most int) bool {
	return len(s) <= most && utf8.ValidString(s) && !strings.Contains(s, "\x00")
}

// parseCancel reads a record of the topic of cancellations.
func parseCancel(m kafka.Message) (c store.Cancellation, err error) {
	var v struct {
		CeID  string `json:"ce_id"`
		Cause string `json:"cause"`
	}
	if err := json.Unmarshal(m.Value, &v); err != nil {
		return c, fmt.Errorf("read cancellation: %w", err)
	}
	if _, reader, _ := strings.Cut(v.CeID, ":"); reader == "" || !keepable(v.CeID, maxCeID) || !keepable(v.Cause, maxReader) {
		return c, errors.New("read cancellation: its ce_id is not <message id>:<reader>")
	}
	return store.Cancellation{CeID: v.CeID, Cause: v.Cause}, nil
}
