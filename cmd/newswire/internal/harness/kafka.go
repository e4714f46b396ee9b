package harness

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"newswire/ack/offline/kafkatest"
)

// Topics of the hand-over, as the default configuration names them.
const (
	OfflineTopic   = "news-offline"
	CancelledTopic = "news-offline-cancelled"
)

// Record is the value of a record of OfflineTopic.
type Record struct {
	ID         string          `json:"id"`
	Reader     string          `json:"reader"`
	Reason     string          `json:"reason"`
	Attempts   int             `json:"attempts"`
	FirstSent  *time.Time      `json:"first_sent"`
	HandedOver time.Time       `json:"handed_over"`
	Message    json.RawMessage `json:"message"`
}

// Records gives every record that a topic holds now, oldest first in each
// partition. A topic that does not exist holds none.
func Records(t testing.TB, brokers []string, topic string) []kafkatest.Record {
	t.Helper()
	if n := held(t, brokers, topic); n > 0 {
		return kafkatest.Collect(t, brokers, topic, kafkatest.Count(n))
	}
	return nil
}

// held counts the records of a topic.
func held(t testing.TB, brokers []string, topic string) (n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	transport := new(kafka.Transport)
	defer transport.CloseIdleConnections()
	c := &kafka.Client{Addr: kafka.TCP(brokers...), Transport: transport}
	found, err := c.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		t.Fatalf("ask Kafka for %s: %v", topic, err)
	}
	var ends []kafka.OffsetRequest
	for _, p := range found.Topics[0].Partitions {
		ends = append(ends, kafka.FirstOffsetOf(p.ID), kafka.LastOffsetOf(p.ID))
	}
	if err := found.Topics[0].Error; err != nil {
		if errors.Is(err, kafka.UnknownTopicOrPartition) {
			return 0
		}
		t.Fatalf("ask Kafka for %s: %v", topic, err)
	}
	offsets, err := c.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: ends}})
	if err != nil {
		t.Fatalf("ask Kafka for the end of %s: %v", topic, err)
	}
	for _, p := range offsets.Topics[topic] {
		if p.Error != nil {
			t.Fatalf("ask Kafka for the end of %s: %v", topic, p.Error)
		}
		n += int(p.LastOffset - p.FirstOffset)
	}
	return n
}
