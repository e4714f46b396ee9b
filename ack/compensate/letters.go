package compensate

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"

	"newswire/ack/compensate/store"
)

// Headers of a dead letter, beside those of the record.
const (
	deadPrefix     = "x-dead-letter-"
	headerCause    = deadPrefix + "cause"
	headerDetail   = deadPrefix + "detail"
	headerChannel  = deadPrefix + "channel"
	headerDevice   = deadPrefix + "device"
	headerAttempts = deadPrefix + "attempts"
	headerTime     = deadPrefix + "time"

	originPrefix    = "x-original-"
	headerTopic     = originPrefix + "topic"
	headerPartition = originPrefix + "partition"
	headerOffset    = originPrefix + "offset"
)

func header(key, value string) kafka.Header { return kafka.Header{Key: key, Value: []byte(value)} }

// usual are the headers that every record of the engine has alike; they are not kept.
func usual(ceID string) []kafka.Header {
	return []kafka.Header{
		header("content-type", "application/json"), header("ce_specversion", "1.0"), header("ce_type", "newswire.offline.v1"), header("ce_id", ceID),
	}
}

// keptHeader is a header as the database keeps it.
type keptHeader struct {
	Key   string `json:"k"`
	Value []byte `json:"v"`
}

// originOf is where a record lay, and with which headers. A dead letter that is
// taken in again lay where it says.
func originOf(m kafka.Message) store.Origin {
	o := store.Origin{Partition: m.Partition, Position: m.Offset}
	same := make(map[string]string)
	for _, h := range usual(headerOf(m, "ce_id")) {
		same[h.Key] = string(h.Value)
	}
	var kept []keptHeader
	for _, h := range m.Headers {
		switch value, isUsual := same[h.Key]; {
		case h.Key == headerPartition:
			o.Partition, _ = strconv.Atoi(string(h.Value)) // our own numbers
		case h.Key == headerOffset:
			o.Position, _ = strconv.ParseInt(string(h.Value), 10, 64)
		case strings.HasPrefix(h.Key, deadPrefix), strings.HasPrefix(h.Key, originPrefix), isUsual && value == string(h.Value):
		default:
			kept = append(kept, keptHeader(h))
		}
	}
	if len(kept) > 0 {
		o.Headers, _ = json.Marshal(kept) // strings and bytes
	}
	return o
}

// letter is the record that tells of a delivery refused for good: the record's
// key, value and headers, and what became of it.
func (s *Service) letter(d store.DeadLetter) kafka.Message {
	var kept []keptHeader
	_ = json.Unmarshal(d.Headers, &kept) // nothing, or what originOf wrote
	m := kafka.Message{Key: []byte(d.Reader), Value: d.Value}
	for _, h := range kept {
		m.Headers = append(m.Headers, kafka.Header(h))
	}
	for _, h := range append(usual(d.CeID), header("ce_source", "newswire"), header("ce_time", d.Settled.UTC().Format(time.RFC3339Nano))) {
		if headerOf(m, h.Key) == "" {
			m.Headers = append(m.Headers, h)
		}
	}
	m.Headers = append(m.Headers,
		header(headerCause, d.Reason), header(headerDetail, d.Detail), header(headerChannel, d.Channel),
		header(headerDevice, strconv.FormatInt(d.Device, 10)), header(headerAttempts, strconv.Itoa(d.Attempts)),
		header(headerTime, d.Settled.UTC().Format(time.RFC3339Nano)), header(headerTopic, s.cfg.Kafka.Topic))
	if d.Position >= 0 {
		m.Headers = append(m.Headers, header(headerPartition, strconv.Itoa(d.Partition)), header(headerOffset, strconv.FormatInt(d.Position, 10)))
	}
	return m
}

// malformed is the dead letter of a record that nobody can read.
func malformed(m kafka.Message, why error, now time.Time) kafka.Message {
	return kafka.Message{
		Key: m.Key, Value: m.Value,
		Headers: append(append([]kafka.Header{}, m.Headers...),
			header(headerCause, "malformed"), header(headerDetail, why.Error()), header(headerTime, now.UTC().Format(time.RFC3339Nano)),
			header(headerTopic, m.Topic), header(headerPartition, strconv.Itoa(m.Partition)), header(headerOffset, strconv.FormatInt(m.Offset, 10))),
	}
}

func headerOf(m kafka.Message, key string) string {
	for _, h := range m.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

func (s *Service) writeLetters(ctx context.Context, letters []store.DeadLetter) error {
	messages := make([]kafka.Message, len(letters))
	for i, d := range letters {
		messages[i] = s.letter(d)
	}
	if err := s.writer.WriteMessages(ctx, messages...); err != nil {
		return fmt.Errorf("write to %s: %w", s.cfg.Kafka.deadLetters(), err)
	}
	return nil
}
