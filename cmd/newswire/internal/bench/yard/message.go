//go:build linux

package yard

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"newswire/fanout/journal"
)

// Size is how many bytes every message has as a reader gets it, the header of
// the WebSocket frame not counted.
const Size = 512

// Tag is what all messages have, and all readers follow.
const Tag = "tech"

// tail is how every message ends: its number and when it set out. Both have
// always as many digits, so that a reader finds them from the end.
const (
	tail       = `"n":"%06d","at":"%019d"}}`
	tailLength = len(`"n":"`) + numberLen + len(`","at":"`) + stampLen + len(`"}}`)
	numberLen  = 6
	stampLen   = 19 // of nanoseconds since 1970, until the year 2286
)

// firstLSN is the position of message 0; each commit takes lsnStep.
const (
	firstLSN = 0x1000000
	lsnStep  = 0x10
)

// commit is transaction n, of one article that sets out at the given time.
func commit(n int, at time.Time) journal.Commit {
	lsn := journal.LSN(firstLSN + lsnStep*n)
	m := journal.Message{
		ID: journal.ID{Epoch: 1, LSN: lsn}, Action: journal.Publish, Tags: []string{Tag}, Source: "public.articles",
		Key: json.RawMessage(`{"id":42}`), Time: at.UTC().Truncate(time.Microsecond),
	}
	bare := len(m.AppendFrame(nil, journal.Attempt{N: 1})) // with {} for the data
	body := Size - bare - len(`"body":"",`) - tailLength + len(`}}`)
	m.Data = fmt.Appendf(nil, `{"body":"%s",`+tail[:len(tail)-1], strings.Repeat("x", body), n, at.UnixNano())
	return journal.Commit{Epoch: 1, LSN: lsn, End: lsn + lsnStep/2, Time: m.Time, Messages: []journal.Message{m}}
}

// frame is message n as the engine puts it on the wire: what the yardsticks send.
func frame(n int, at time.Time) []byte {
	return commit(n, at).Messages[0].AppendFrame(nil, journal.Attempt{N: 1})
}

// ReadTail takes number and time off the end of a message.
func ReadTail(payload []byte) (n int, at int64, ok bool) {
	if len(payload) < tailLength {
		return 0, 0, false
	}
	end := payload[len(payload)-tailLength:]
	n, ok = digits(end[len(`"n":"`):][:numberLen])
	stamp, fine := digits(end[len(end)-len(`"}}`)-stampLen:][:stampLen])
	return n, int64(stamp), ok && fine
}

func digits(text []byte) (n int, ok bool) {
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return n, true
}
