package journal

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// timeFormat prints commit times with PostgreSQL's microseconds.
const timeFormat = "2006-01-02T15:04:05.000000Z"

// AppendJSON prints the message as everybody gets it: readers, Kafka, tail.
// What belongs to one delivery (its type, attempt and replay) is not in it.
func (m *Message) AppendJSON(b []byte) []byte {
	b = append(b, `{"id":"`...)
	b = append(b, m.ID.String()...)
	b = append(b, `","action":"`...)
	b = append(b, m.Action...)
	b = append(b, `","tags":[`...)
	for i, tag := range m.Tags {
		if i > 0 {
			b = append(b, ',')
		}
		b = AppendString(b, tag)
	}
	b = append(b, `],"source":`...)
	b = AppendString(b, m.Source)
	b = append(b, `,"key":`...)
	b = appendObject(b, m.Key)
	b = append(b, `,"time":"`...)
	b = m.Time.UTC().AppendFormat(b, timeFormat)
	b = append(b, `","data":`...)
	b = appendObject(b, m.Data)
	if m.Truncated {
		b = append(b, `,"truncated":true`...)
	}
	return append(b, '}')
}

// AppendFrame prints one attempt of the message as readers get it, over
// WebSocket and by poll.
func (m *Message) AppendFrame(b []byte, a Attempt) []byte {
	b = append(b, `{"type":"message","attempt":`...)
	b = strconv.AppendInt(b, int64(a.N), 10)
	b = append(b, `,"replay":`...)
	b = strconv.AppendBool(b, a.Replay)
	at := len(b)
	b = m.AppendJSON(b)
	b[at] = ',' // the message's own opening brace
	return b
}

// AppendString quotes s for JSON and leaves <, > and & as they are.
func AppendString(b []byte, s string) []byte {
	buf := bytes.NewBuffer(b)
	quote := json.NewEncoder(buf)
	quote.SetEscapeHTML(false)
	if err := quote.Encode(s); err != nil {
		panic("quote a string: " + err.Error()) // a string and a buffer know no errors
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
}

// appendObject copies JSON as PostgreSQL printed it: not a space of it changes.
func appendObject(b []byte, object json.RawMessage) []byte {
	if len(object) == 0 {
		return append(b, "{}"...)
	}
	return append(b, object...)
}
