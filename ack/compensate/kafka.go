package compensate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
)

const (
	dialTimeout  = 5 * time.Second
	writeTimeout = 10 * time.Second
	metadataTTL  = 5 * time.Second // how long a moved leader goes unnoticed
	fetchBytes   = 8 << 20
	fetchWait    = 250 * time.Millisecond
	queued       = 128 // records read ahead; with the engine's limit on a record, a bound in bytes too
)

func (k Kafka) transport() *kafka.Transport {
	return &kafka.Transport{
		DialTimeout: dialTimeout, MetadataTTL: metadataTTL, ClientID: "newswire-compensate", TLS: k.TLS, SASL: k.SASL,
		MetadataTopics: []string{k.Topic, k.cancelled(), k.deadLetters()},
	}
}

func (k Kafka) dialer() *kafka.Dialer {
	return &kafka.Dialer{Timeout: dialTimeout, ClientID: "newswire-compensate", TLS: k.TLS, SASLMechanism: k.SASL}
}

// writer writes dead letters.
func (k Kafka) writer(t *kafka.Transport) *kafka.Writer {
	return &kafka.Writer{
		Addr: kafka.TCP(k.Brokers...), Transport: t, Topic: k.deadLetters(),
		Balancer:     &kafka.Hash{},
		RequiredAcks: kafka.RequireAll, // the zero value asks for none
		BatchTimeout: 5 * time.Millisecond,
		ReadTimeout:  writeTimeout, WriteTimeout: writeTimeout,
		MaxAttempts:            1, // the database keeps what is not written, and the caller comes again
		AllowAutoTopicCreation: true,
	}
}

// group reads the topic of hand-overs as a member of the group, from the beginning where the
// group has no offsets: what was handed over before the service was set up is
// stale, or wanted.
func (s *Service) group() *kafka.Reader {
	k := s.cfg.Kafka
	complain := kafka.LoggerFunc(func(format string, args ...any) {
		s.log.Debug("kafka", "what", fmt.Sprintf(format, args...))
	})
	return kafka.NewReader(kafka.ReaderConfig{
		Brokers: k.Brokers, Dialer: k.dialer(), GroupID: k.Group, GroupTopics: []string{k.Topic},
		MinBytes: 1, MaxBytes: fetchBytes, MaxWait: fetchWait, QueueCapacity: queued,
		StartOffset: kafka.FirstOffset, WatchPartitionChanges: true,
		SessionTimeout: k.Session, HeartbeatInterval: k.Session / 5, RebalanceTimeout: k.Session,
		JoinGroupBackoff: time.Second, ReadBackoffMin: 50 * time.Millisecond,
		ErrorLogger: complain,
	})
}

// place is where the group stands in a partition of the topic.
type place struct {
	begin, end int64 // of the records that the partition has
	committed  int64 // the next record to take in, as the group says
}

// lag is how many records were not taken in.
func (p place) lag() int64 { return max(0, p.end-max(p.committed, p.begin)) }

// places asks where the group stands in each partition of the topic.
func (s *Service) places(ctx context.Context) (map[int]place, error) {
	ends, err := s.offsets(ctx, kafka.LastOffset)
	if err != nil {
		return nil, err
	}
	begins, err := s.offsets(ctx, kafka.FirstOffset)
	if err != nil {
		return nil, err
	}
	committed, err := s.committed(ctx, ends)
	if err != nil {
		return nil, err
	}
	places := make(map[int]place)
	for partition, end := range ends {
		places[partition] = place{begins[partition], end, committed[partition]}
	}
	return places, nil
}

// offsets asks for one offset of each partition: kafka.FirstOffset, kafka.LastOffset, or
// the first record at or behind a time in milliseconds.
func (s *Service) offsets(ctx context.Context, which int64) (map[int]int64, error) {
	return s.offsetsOf(ctx, s.cfg.Kafka.Topic, which)
}

func (s *Service) offsetsOf(ctx context.Context, topic string, which int64) (map[int]int64, error) {
	meta, err := s.client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		return nil, fmt.Errorf("ask Kafka for topic %s: %w", topic, err)
	}
	var asks []kafka.OffsetRequest
	for _, t := range meta.Topics {
		if t.Error != nil {
			return nil, fmt.Errorf("ask Kafka for topic %s: %w", topic, t.Error)
		}
		for _, p := range t.Partitions {
			asks = append(asks, kafka.OffsetRequest{Partition: p.ID, Timestamp: which})
		}
	}
	answer, err := s.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: asks}})
	if err != nil {
		return nil, fmt.Errorf("ask Kafka for offsets of %s: %w", topic, err)
	}
	offsets := make(map[int]int64)
	for _, p := range answer.Topics[topic] {
		switch {
		case p.Error != nil:
			return nil, fmt.Errorf("ask Kafka for offsets of %s: %w", topic, p.Error)
		case which == kafka.FirstOffset:
			offsets[p.Partition] = p.FirstOffset
		case which == kafka.LastOffset:
			offsets[p.Partition] = p.LastOffset
		default:
			for offset := range p.Offsets {
				offsets[p.Partition] = offset
			}
		}
	}
	return offsets, nil
}

// committed asks where the group stands; 0 where it never was.
func (s *Service) committed(ctx context.Context, partitions map[int]int64) (map[int]int64, error) {
	topic := s.cfg.Kafka.Topic
	var numbers []int
	for p := range partitions {
		numbers = append(numbers, p)
	}
	answer, err := s.client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: s.cfg.Kafka.Group, Topics: map[string][]int{topic: numbers}})
	if err == nil && !errors.Is(answer.Error, kafka.GroupIdNotFound) { // nobody has joined it yet
		err = answer.Error
	}
	if err != nil {
		return nil, fmt.Errorf("ask Kafka for offsets of group %s: %w", s.cfg.Kafka.Group, err)
	}
	offsets := make(map[int]int64)
	for _, p := range answer.Topics[topic] {
		offsets[p.Partition] = max(0, p.CommittedOffset)
	}
	return offsets, nil
}
