package gateway

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"newswire/fanout/journal"
)

// goldenFrames are what the server says, by the name of the file that holds it
// as CONTRACT.md has it.
func goldenFrames() map[string]*frame {
	at := time.Date(2026, 11, 23, 9, 41, 7, 123_456_000, time.UTC)
	id := journal.ID{Epoch: 1, LSN: 0x196a3b0}
	message := func(m journal.Message, a journal.Attempt) *frame {
		m.Source, m.Time = "public.articles", m.Time.In(time.FixedZone("elsewhere", 3600))
		return messageFrame(&m, a)
	}
	key := json.RawMessage(`{"id":42}`)
	return map[string]*frame{
		"message": message(journal.Message{
			ID: id, Action: journal.Publish, Tags: []string{"tech", "ai"}, Key: key, Time: at,
			Data: json.RawMessage(`{"id":42, "title":"<b>Zoë</b> & co \u2028", "url":null, "published_at":"2026-11-23T09:41:07.1+00:00"}`),
		}, journal.Attempt{N: 1}),
		"message_replayed": message(journal.Message{
			ID: journal.ID{Epoch: 1, LSN: 0x196a3b0, Ordinal: 1}, Action: journal.Correct, Tags: []string{"general"},
			Key: key, Time: at.Truncate(100 * time.Millisecond), Data: key,
		}, journal.Attempt{N: 3, Replay: true}),
		"message_retracted": message(journal.Message{
			ID: journal.ID{Epoch: 1, LSN: 0x196a3b0, Ordinal: 2}, Action: journal.Retract, Tags: []string{`a "quoted" tag\`, "<&>"},
			Key: json.RawMessage(`{"id":42,"lang":"de"}`), Time: at.Truncate(time.Second), Data: json.RawMessage(`{"id":42,"lang":"de"}`),
		}, journal.Attempt{N: 1}),
		"message_truncated": message(journal.Message{
			ID: journal.ID{Epoch: 0xffff, LSN: 1<<64 - 1, Ordinal: 1<<32 - 1}, Action: journal.Publish, Tags: []string{"tech"},
			Key: key, Time: at, Data: key, Truncated: true,
		}, journal.Attempt{N: 1}),
		"welcome": controlFrame(welcomeFrame{
			"welcome", "00f1e2d3c4b5a697", "u1", []string{"ai", "tech"}, []string{"gossip"}, "complete", 30000, 25000, "2026-11-23T10:41:07Z",
		}),
		"welcome_empty": controlFrame(welcomeFrame{
			"welcome", "00f1e2d3c4b5a697", "Zoë <z@example.com>", listed(nil), listed(nil), "none", 30000, 25000, "2026-11-23T10:41:07Z",
		}),
		"subscriptions":             controlFrame(subscriptionsFrame{"subscriptions", "7", []string{"ai", "tech"}, listed(nil)}),
		"subscriptions_unsolicited": controlFrame(subscriptionsFrame{"subscriptions", "", []string{"ai"}, []string{"gossip"}}),
		"token":                     controlFrame(tokenFrame{"token", "", "2026-11-23T10:41:07Z"}),
		"pong":                      controlFrame(pongFrame{"pong", "1"}),
		"error":                     controlFrame((&refusal{"tag_forbidden", "the token does not permit to follow secret"}).frame("7")),
		"bye_draining":              controlFrame(byeFrame{"bye", endDraining.code, endDraining.reason, 1500}),
		"bye_bad_frame":             controlFrame(byeFrame{"bye", endBadFrame.code, endBadFrame.reason, 0}),
	}
}

func TestFramesAreAsTheContractHasThem(t *testing.T) {
	t.Parallel()
	const dir = "../testdata/frames"
	frames := goldenFrames()
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) != len(frames) {
		t.Errorf("%d golden files for %d frames (%v)", len(files), len(frames), err)
	}
	for name, f := range frames {
		golden, err := os.ReadFile(filepath.Join(dir, name+".json"))
		if err != nil {
			t.Error(err)
			continue
		}
		payload := unframe(t, f.wire)
		if got, want := decoded(t, payload), decoded(t, golden); !reflect.DeepEqual(got, want) {
			t.Errorf("%s is\n%s, want\n%s", name, payload, golden)
		}
		if !strings.HasPrefix(string(payload), `{"type":`) {
			t.Errorf("%s does not begin with its type: %s", name, payload)
		}
	}
	// Not a space of the data changes on the way.
	if data := frames["message"].message.Data; !bytes.Contains(frames["message"].wire, data) {
		t.Errorf("the data %s is not in the frame as PostgreSQL printed it", data)
	}
}

// unframe gives the payload of a text frame and checks its header (RFC 6455
// §5.2).
func unframe(t testing.TB, wire []byte) []byte {
	t.Helper()
	if wire[0] != 0x81 || wire[1]&0x80 != 0 {
		t.Fatalf("header % x is not that of a final, unmasked text frame", wire[:2])
	}
	size, rest := uint64(wire[1]), wire[2:]
	switch size {
	case 126:
		size, rest = uint64(binary.BigEndian.Uint16(rest)), rest[2:]
	case 127:
		size, rest = binary.BigEndian.Uint64(rest), rest[8:]
	}
	if size != uint64(len(rest)) {
		t.Fatalf("header says %d bytes, there are %d", size, len(rest))
	}
	return rest
}

func decoded(t testing.TB, raw []byte) (v any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("decode %s: %v", raw, err)
	}
	return v
}

func TestFrameHeadersOfEverySize(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 125, 126, 127, 1<<16 - 1, 1 << 16, 1 << 20} {
		if got := unframe(t, wireFrame(opText, bytes.Repeat([]byte{'x'}, n))); len(got) != n {
			t.Errorf("a payload of %d bytes has %d", n, len(got))
		}
	}
	if got, want := closeFrame(4009, "slow").wire, []byte{0x88, 6, 0x0f, 0xa9, 's', 'l', 'o', 'w'}; !bytes.Equal(got, want) {
		t.Errorf("close frame is % x, want % x", got, want)
	}
}

// What a code tells a client to do follows from its number.
func TestEndingsKeepTheNumbersOfTheContract(t *testing.T) {
	t.Parallel()
	want := map[int]string{
		1009: "frame_too_big", 1012: "draining", 4001: "token_expired", 4008: "hello_timeout", 4009: "slow_reader",
		4029: "rate_limited", 4500: "bad_frame", 4501: "unauthorized", 4529: "too_many_sessions",
	}
	reasons := make(map[string]bool)
	for _, e := range endings {
		if reason, ok := want[e.code]; ok && reason != e.reason {
			t.Errorf("code %d has reason %q, want %q", e.code, e.reason, reason)
		}
		delete(want, e.code)
		if reasons[e.reason] {
			t.Errorf("two endings have the reason %q", e.reason)
		}
		reasons[e.reason] = true
	}
	for code, reason := range want {
		t.Errorf("no ending has code %d %s", code, reason)
	}
}
