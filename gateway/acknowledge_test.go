package gateway

import (
	"encoding/json"
	"slices"
	"testing"

	"newswire/fanout/journal"
)

// Acknowledgements as clients print them need no general decoder.
func TestPlainAcksAreRecognised(t *testing.T) {
	t.Parallel()
	for raw, plain := range map[string]bool{
		`{"type":"ack","id":"` + farID + `"}`:                        true,
		`{"type":"ack","ids":["` + farID + `","` + farID + `"]}`:     true,
		`{"type":"ack","upto":"` + farID + `"}`:                      true,
		` { "type" : "ack" , "ids" : [ "` + farID + `" , "x" ] } `:   true,
		`{"type":"ack","ids":[]}`:                                    true,
		`{"type":"ack"}`:                                             false,
		`{"id":"` + farID + `","type":"ack"}`:                        false,
		`{"type":"ack","id":"` + farID + `","upto":"` + farID + `"}`: false,
		`{"type":"ack","id":"` + farID + `","ref":"7"}`:              false,
		`{"type":"ping"}`:                                            false,
		`{"type":"ack","id":"` + farID + `"} x`:                      false,
		`{"type":"ack","id":"\u0030` + farID[1:] + `"}`:              false,
		`{"type":"ack","ids":["` + farID + `",]}`:                    false,
		`{"type":"ack","id":7}`:                                      false,
	} {
		if _, got := parseAck([]byte(raw), nil); got != plain {
			t.Errorf("%s: plain is %v, want %v", raw, got, plain)
		}
	}
}

// What parseAck reads is what encoding/json reads.
func FuzzParseAck(f *testing.F) {
	for _, seed := range []string{
		`{"type":"ack","id":"` + farID + `"}`, `{"type":"ack","ids":["` + farID + `","x"]}`, `{"type":"ack","upto":"` + farID + `"}`,
		`{"type":"ack","ids":[]}`, `{"Type":"ack","id":"x"}`, `{"type":"ack","type":"ping","id":""}`, ` {"type":"ack" ,"id":"é"}`, "{\"type\":\"ack\",\"id\":\"\x80\"}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, plain := parseAck(raw, nil)
		if !plain {
			return
		}
		var want clientFrame
		if err := json.Unmarshal(raw, &want); err != nil || want.Type != "ack" {
			t.Fatalf("%q is no ack: %v", raw, err)
		}
		upto, err := journal.ParseID(want.Upto)
		if ids := parseIDs(append(want.IDs, want.ID)); !slices.Equal(got.ids, ids) || got.all != (err == nil) || got.all && got.upto != upto {
			t.Errorf("%q is read as %+v, want ids %v and upto %q", raw, got, ids, want.Upto)
		}
	})
}
