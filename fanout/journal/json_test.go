package journal

import (
	"encoding/json"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestMessageJSONHasTheDocumentedForm(t *testing.T) {
	m := Message{
		ID: ID{Epoch: 1, LSN: 0x16_B374D848, Ordinal: 2}, Action: Correct, Tags: []string{"a<b>&c", `"q"`}, Source: "public.news",
		Key: []byte(`{"id": 7}`), Time: time.UnixMicro(1_700_000_000_000_100), Data: []byte(`{"n": 1.50, "t": "<b>"}`),
	}
	const body = `"id":"000100000016b374d84800000002","action":"correct","tags":["a<b>&c","\"q\""],"source":"public.news",` +
		`"key":{"id": 7},"time":"2023-11-14T22:13:20.000100Z","data":{"n": 1.50, "t": "<b>"}`
	if got := string(m.AppendJSON([]byte("x"))); got != "x{"+body+"}" {
		t.Errorf("AppendJSON = %s", got)
	}
	if got, want := string(m.AppendFrame(nil, Attempt{N: 3, Replay: true})), `{"type":"message","attempt":3,"replay":true,`+body+"}"; got != want {
		t.Errorf("AppendFrame = %s, want %s", got, want)
	}
	m.Truncated, m.Key, m.Data = true, nil, nil
	var got struct {
		Key, Data map[string]any
		Truncated bool
	}
	if err := json.Unmarshal(m.AppendJSON(nil), &got); err != nil || !got.Truncated || got.Key == nil || got.Data == nil {
		t.Errorf("truncated message reads %+v, %v", got, err)
	}
}

// Tags are readers' text: whatever they hold, the frame is one JSON object.
func TestMessageJSONIsValidWhateverTheTags(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := message(1, 2, 3, 4)
		m.Tags = rapid.SliceOf(rapid.String()).Draw(t, "tags")
		var got struct{ Tags []string }
		if err := json.Unmarshal(m.AppendFrame(nil, Attempt{N: 1}), &got); err != nil {
			t.Fatal(err)
		}
		for i, tag := range m.Tags {
			if got.Tags[i] != tag {
				t.Fatalf("tag %q reads %q", tag, got.Tags[i])
			}
		}
		raw := string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"))
		if text := AppendString(nil, raw); !json.Valid(text) {
			t.Fatalf("AppendString(%q) = %s", raw, text)
		}
	})
}
