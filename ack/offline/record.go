package offline

import (
	"strconv"
	"time"

	"github.com/segmentio/kafka-go"

	"newswire/ack"
	"newswire/fanout/journal"
)

// CancelledTopic is the compacted topic that takes back hand-overs of topic.
func CancelledTopic(topic string) string { return topic + cancelledSuffix }

const cancelledSuffix = "-cancelled"

// cut is how much of a message a record leaves out to fit.
type cut int

const (
	whole    cut = iota
	keysOnly     // data holds the key columns: readers fetch the rest by key
	bare         // no tags and no key either, which are bounded by nothing; the id still finds the article
)

// encoder turns hand-overs into records. It keeps the last message's JSON,
// because one message is usually handed over for many readers in a row, and an
// id always stands for the same message.
type encoder struct {
	topic  string // fixed
	source string // fixed; ce_source

	last    journal.ID // what body was made of
	lastCut cut
	body    []byte
}

// handOver makes the record of h, as large as limit allows. truncated tells
// that the data had to stay behind to fit.
func (e *encoder) handOver(h ack.HandOver, now time.Time, limit int) (m kafka.Message, truncated bool) {
	for c := whole; ; c++ {
		if c == whole && len(h.Message.Data) > limit {
			continue // spares copying a megabyte only to find it too large
		}
		m = e.record(h, e.message(h.Message, c), now)
		if c == bare || recordSize(m) <= limit {
			return m, c != whole
		}
	}
}

func (e *encoder) record(h ack.HandOver, body []byte, now time.Time) kafka.Message {
	id, handedOver := h.Message.ID.String(), timestamp(now)
	v := make([]byte, 0, len(body)+len(h.Name)+256)
	v = append(v, `{"id":"`...)
	v = append(v, id...)
	v = append(v, `","reader":`...)
	v = journal.AppendString(v, h.Name)
	v = append(v, `,"reason":`...)
	v = journal.AppendString(v, string(h.Reason))
	v = append(v, `,"attempts":`...)
	v = strconv.AppendInt(v, int64(h.Attempts), 10)
	v = append(v, `,"first_sent":`...)
	if h.FirstSent.IsZero() {
		v = append(v, "null"...)
	} else {
		v = journal.AppendString(v, timestamp(h.FirstSent))
	}
	v = append(v, `,"handed_over":"`...)
	v = append(v, handedOver...)
	v = append(v, `","message":`...)
	v = append(v, body...)
	v = append(v, '}')
	return kafka.Message{
		Topic: e.topic,
		Key:   []byte(h.Name),
		Value: v,
		Headers: []kafka.Header{
			{Key: "content-type", Value: []byte("application/json")},
			{Key: "ce_specversion", Value: []byte("1.0")},
			{Key: "ce_type", Value: []byte("newswire.offline.v1")},
			{Key: "ce_source", Value: []byte(e.source)},
			{Key: "ce_id", Value: []byte(ack.CeID(h.Message.ID, h.Name))},
			{Key: "ce_time", Value: []byte(handedOver)},
		},
	}
}

// message is m as readers get it, without what only one delivery has.
func (e *encoder) message(m *journal.Message, c cut) []byte {
	if e.last == m.ID && e.lastCut == c {
		return e.body
	}
	e.last, e.lastCut, e.body = m.ID, c, appendMessage(nil, m, c)
	return e.body
}

func appendMessage(dst []byte, m *journal.Message, c cut) []byte {
	if c == whole {
		return m.AppendJSON(dst)
	}
	short := *m
	short.Data, short.Truncated = m.Key, true
	if c == bare {
		short.Tags, short.Key, short.Data = nil, nil, nil
	}
	return short.AppendJSON(dst)
}

// cancel makes the record that takes back a hand-over. Its key is the
// hand-over's id, so compaction keeps one record for each.
func (e *encoder) cancel(c ack.Cancel) kafka.Message {
	v := journal.AppendString([]byte(`{"ce_id":`), c.CeID)
	v = journal.AppendString(append(v, `,"cause":`...), c.Cause)
	return kafka.Message{
		Topic: CancelledTopic(e.topic),
		Key:   []byte(c.CeID),
		Value: append(v, '}'),
	}
}

// recordSize is what m takes of a batch before compression: a little more
// than its bytes, for lengths and offsets.
func recordSize(m kafka.Message) int {
	const perRecord, perHeader = 64, 10
	n := perRecord + len(m.Key) + len(m.Value)
	for _, h := range m.Headers {
		n += perHeader + len(h.Key) + len(h.Value)
	}
	return n
}

// timestamp prints RFC 3339 in UTC, to PostgreSQL's microsecond.
func timestamp(t time.Time) string {
	return t.UTC().Truncate(time.Microsecond).Format(time.RFC3339Nano)
}
