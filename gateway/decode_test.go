package gateway

import (
	"encoding/json"
	"fmt"
	"testing"

	"newswire/gateway/gatewaytest"
)

func TestTextIsTakenAsItWasSentOrRefused(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		`"tech"`: "tech", `"ä�"`: "ä�", `"\ufffd"`: "�", `"\ud83d\ude00"`: "😀", `"\uD83D\uDE00"`: "😀", `"\\ud800"`: `\ud800`,
		`"\\\\ud800"`: `\\ud800`, `"\u0041"`: "A", `"a\nb"`: "a\nb",
		`"\ud800"`: "\x00", `"\udc00"`: "\x00", `"a\ud800\ud800b"`: "a\x00\x00b", `"\ud800\ud83d\ude00"`: "\x00😀",
		`"\\\uDBFF"`: "\\\x00", `"\ud800\\udc00"`: "\x00" + `\udc00`, `"\ud800x"`: "\x00x", `"\ud800\u0041"`: "\x00A",
	} {
		var got string
		if err := decodeJSON([]byte(raw), &got); err != nil || got != want {
			t.Errorf("%s is taken as %q (%v), want %q", raw, got, err, want)
		}
	}
	for _, raw := range []string{"\"\xff\"", "\"\xc3\"", "\"\xed\xa0\x80\"", `"\`, `"\u`, `"\ud800`, `"\ud80"`, `"\ud800\`, `"\uzzzz"`, `\`, ""} {
		var got string
		if err := decodeJSON([]byte(raw), &got); err == nil {
			t.Errorf("%q is taken as %q", raw, got)
		}
	}
}

func FuzzDecodeJSON(f *testing.F) {
	for _, seed := range []string{`{"tags":["\ud800"]}`, `"\\\ud800\udc00"`, "\"\xff\"", `"\u`, `[`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		sound := json.Valid(raw)
		var got any
		if err := decodeJSON(raw, &got); err == nil && !sound {
			t.Errorf("%q is taken and is no JSON", raw)
		}
	})
}

func TestWhatIsNoTextIsRefusedOverWebSocket(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, raw := range []string{
		"{\"type\":\"follow\",\"tags\":[\"te\xffch\"]}", "{\"type\":\"ping\",\"ref\":\"\xc3\"}", "{\"type\":\"ack\",\"id\":\"\xff\"}",
		"{\"type\":\"teleport\",\"x\":\"\xed\xa0\x80\"}",
	} {
		c := r.join("u1", gatewaytest.Options{})
		c.Send([]byte(raw))
		endsWith(t, c, endBadFrame)
	}
	c := r.dial("u1", gatewaytest.Options{NoHello: true})
	c.Send([]byte(fmt.Sprintf("{\"type\":\"hello\",\"token\":%q,\"follow\":[\"\xff\"]}", r.token("u1", nil))))
	endsWith(t, c, endBadFrame)
	c = r.join("u1", gatewaytest.Options{})
	c.Send([]byte(`{"type":"follow","ref":"half","tags":["fine","a\ud800"]}`))
	f := c.Until("the answer", func(f gatewaytest.Frame) bool { return f.Ref == "half" })
	if f.Type != "error" || string(f.Code) != `"bad_tag"` {
		t.Errorf("half a character is answered %s, want error bad_tag", f.Raw)
	}
	if _, sets, _ := r.readers.Get("u1"); len(sets.Follow) > 0 {
		t.Errorf("refused frames left %v", sets)
	}
}
