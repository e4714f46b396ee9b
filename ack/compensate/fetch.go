package compensate

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/segmentio/kafka-go"
)

// part is what one fetch of a partition brought.
type part struct {
	messages []kafka.Message
	next     int64 // where the next fetch begins
}

// emptyFetches are how often a broker may say that there are records and bring none,
// before it is believed that compaction has left none there.
const emptyFetches = 3

// fetchPart waits for records of a partition at an offset or behind it, without a
// group, and brings at most maxBytes of them; none came in time where next is the
// offset. A refusal of the broker, such as kafka.OffsetOutOfRange, is its error.
func (s *Service) fetchPart(ctx context.Context, topic string, partition int, offset int64, maxBytes int64) (p part, err error) {
	p.next = offset
	for range emptyFetches {
		answer, err := s.client.Fetch(ctx, &kafka.FetchRequest{
			Topic: topic, Partition: partition, Offset: offset, MinBytes: 1, MaxBytes: maxBytes, MaxWait: fetchWait,
		})
		if err != nil {
			return p, fmt.Errorf("fetch from partition %d of topic %s: %w", partition, topic, err)
		}
		if answer.Error != nil {
			return p, fmt.Errorf("fetch offset %d of partition %d of topic %s: %w", offset, partition, topic, answer.Error)
		}
		if p.messages, err = records(answer, offset); err != nil {
			return p, fmt.Errorf("read partition %d of topic %s: %w", partition, topic, err)
		}
		if n := len(p.messages); n > 0 {
			p.next = p.messages[n-1].Offset + 1
			return p, nil
		}
		if answer.HighWatermark <= offset {
			return p, nil
		}
		p.next = answer.HighWatermark
	}
	return p, nil
}

// records are those of an answer that lie at the offset or behind it.
func records(answer *kafka.FetchResponse, offset int64) (all []kafka.Message, err error) {
	for {
		r, err := answer.Records.ReadRecord()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		m := kafka.Message{Topic: answer.Topic, Partition: answer.Partition, Offset: r.Offset, Time: r.Time, Headers: r.Headers}
		if m.Key, err = contents(r.Key); err == nil {
			m.Value, err = contents(r.Value)
		}
		if err != nil {
			return nil, err
		}
		if m.Offset >= offset { // a batch is brought whole
			all = append(all, m)
		}
	}
}

// contents takes bytes out of the client's pages; nil: there are none.
func contents(b kafka.Bytes) ([]byte, error) {
	if b == nil {
		return nil, nil
	}
	defer b.Close()
	return kafka.ReadAll(b)
}
