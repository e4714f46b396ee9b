//go:build linux

package yard

import (
	"encoding/json"
	"testing"
	"time"
)

// Every message is as long as every other, is what the engine would send, and
// tells its number and time from its end.
func TestMessagesAreAlikeAndTellTheirNumberAndTime(t *testing.T) {
	at := time.Unix(1_800_000_000, 123_456_789)
	for _, n := range []int{0, 7, 999_999} {
		payload := frame(n, at)
		if len(payload) != Size || !json.Valid(payload) {
			t.Errorf("message %d has %d bytes, want %d of JSON: %s", n, len(payload), Size, payload)
		}
		number, stamp, ok := ReadTail(payload)
		if !ok || number != n || stamp != at.UnixNano() {
			t.Errorf("the end of message %d tells %d, %d, %v", n, number, stamp, ok)
		}
	}
	for _, other := range []string{"", `{"type":"welcome"}`, string(frame(1, at)[1:]) + "x"} {
		if n, _, ok := ReadTail([]byte(other)); ok {
			t.Errorf("ReadTail(%.30q…) tells number %d of what is no message", other, n)
		}
	}
}
