package sms

import (
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"newswire/ack/compensate/channel"
	"newswire/ack/compensate/channel/wire"
)

func TestSegmentsAreCountedAsTheyAreSent(t *testing.T) {
	for _, test := range []struct {
		text string
		want int
	}{
		{"", 1}, {strings.Repeat("a", 160), 1}, {strings.Repeat("a", 161), 2}, {strings.Repeat("a", 306), 2}, {strings.Repeat("a", 307), 3},
		{strings.Repeat("€", 80), 1}, {strings.Repeat("€", 81), 2},
		// 153 is odd: a sign of two septets stands in one segment.
		{strings.Repeat("€", 152), 2}, {strings.Repeat("€", 153), 3},
		{strings.Repeat("ä", 160), 1}, {strings.Repeat("ç", 70), 1}, {strings.Repeat("ç", 71), 2}, {strings.Repeat("ç", 134), 2}, {strings.Repeat("ç", 135), 3},
		{strings.Repeat("😀", 35), 1}, {strings.Repeat("😀", 36), 2}, {strings.Repeat("😀", 66), 2}, {strings.Repeat("😀", 67), 3},
		{strings.Repeat("a", 159) + "€", 2},
	} {
		if got := segments(test.text); got != test.want {
			t.Errorf("%d of %q: %d segments, want %d", utf8.RuneCountInString(test.text), string([]rune(test.text + " ")[0]), got, test.want)
		}
	}
	if len(septets) != 127+10 { // 128 places less the escape, and the second table
		t.Errorf("the alphabet has %d characters", len(septets))
	}
}

func TestAnswersAreUnderstood(t *testing.T) {
	rules := []Rule{
		{Status: "200", Field: "messages.0.status", Values: []string{"0"}, Outcome: "sent"},
		{Status: "200", Field: "messages.0.status", Values: []string{"7"}, Outcome: "gone", Reason: "barred"},
		{Status: "409", Outcome: "sent"}, // it has that id already
		{Status: "500-503", Field: "retry", Values: []string{"true"}, Outcome: "temporary", Everybody: true},
	}
	parsed, err := parseRules(rules)
	if err != nil {
		t.Fatal(err)
	}
	ch := &Channel{rules: parsed, config: Config{IDField: "messages.0.id"}}
	for _, test := range []struct {
		status    int
		body      string
		outcome   channel.Outcome
		reason    string
		everybody bool
	}{
		{200, `{"messages":[{"status":"0","id":"m1"}]}`, channel.Sent, "", false},
		{200, `{"messages":[{"status":0}]}`, channel.Sent, "", false},
		{200, `{"messages":[{"status":"7"}]}`, channel.Gone, "barred", false},
		{200, `{"messages":[{"status":"99"}]}`, channel.Doubtful, "unknown_answer", false},
		{200, `{"messages":[]}`, channel.Doubtful, "unknown_answer", false},
		{200, `{"messages":[{"status":"0"}`, channel.Doubtful, "malformed_answer", false},
		{200, ``, channel.Doubtful, "malformed_answer", false},
		{202, ``, channel.Sent, "", false}, // no rule looks into it
		{409, ``, channel.Sent, "", false},
		{500, `{"retry":true}`, channel.Temporary, "http_500", true},
		{500, `{"retry":false}`, channel.Doubtful, "http_500", true},
		{502, `<html>`, channel.Doubtful, "http_502", true},
		{503, ``, channel.Throttled, "http_503", true},
		{504, ``, channel.Doubtful, "http_504", true},
		{408, ``, channel.Doubtful, "http_408", true},
		{429, ``, channel.Throttled, "http_429", true},
		{401, ``, channel.Temporary, "http_401", true},
		{404, ``, channel.Temporary, "http_404", true},
		{400, ``, channel.Permanent, "http_400", false},
		{422, ``, channel.Permanent, "http_422", false},
		{303, ``, channel.Doubtful, "http_303", true},
		{307, ``, channel.Temporary, "http_307", true},
	} {
		r := ch.understand(wire.Answer{Status: test.status, Header: http.Header{}, Body: []byte(test.body)})
		if r.Outcome != test.outcome || r.Reason != test.reason || r.Everybody != test.everybody {
			t.Errorf("%d %s: %+v, want %s %s %t", test.status, test.body, r, test.outcome, test.reason, test.everybody)
		}
	}
	if r := ch.understand(wire.Answer{Status: 200, Body: []byte(`{"messages":[{"status":"0","id":"m1"}]}`)}); r.ProviderID != "m1" {
		t.Errorf("the gateway's id is %q", r.ProviderID)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(200, []byte(`{"messages":[{"status":"0","id":"m1"}]}`), "messages.0.status", "0")
	f.Add(200, []byte(`[[["x"]]]`), "0.0.0", "x")
	f.Add(200, []byte(`{"":{"":null}}`), ".", "null")
	f.Fuzz(func(t *testing.T, status int, body []byte, field, value string) {
		rules, err := parseRules([]Rule{{Field: field, Values: []string{value}, Outcome: "sent"}})
		if err != nil || field == "" {
			return
		}
		ch := &Channel{rules: rules, config: Config{IDField: field}}
		r := ch.understand(wire.Answer{Status: status, Body: body})
		if r.Outcome == channel.Sent && status >= 200 && status < 300 {
			var v any
			if !decode(body, &v) {
				t.Errorf("%d %q is called sent by the field %q", status, body, field)
			}
		}
		if len(r.ProviderID) > 128 || len(r.Detail) > 200 || !utf8.ValidString(r.Detail) {
			t.Errorf("%+v", r)
		}
	})
}

// Whatever the text, it has no more segments than were paid for.
func FuzzWording(f *testing.F) {
	f.Add("title", "body", "https://news.example.com/1", 1)
	f.Add("\x00", strings.Repeat("€", 500), "", 3)
	f.Add("", strings.Repeat("😀", 100), strings.Repeat("u", 300), 2)
	r, err := parseTemplates(Config{}.withDefaults())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, title, body, url string, most int) {
		if most < 1 || most > mostSegments {
			return
		}
		text, err := r.wording(channel.Notification{Title: title, Body: body, URL: url}, most)
		if err == nil && (segments(text) > most || text == "") {
			t.Errorf("%d segments, want at most %d", segments(text), most)
		}
		if err != nil && strings.TrimSpace(clean(body)) != "" {
			t.Errorf("a body that can be shortened is refused: %v", err)
		}
	})
}

func TestTheTextBeginsWithTheTitle(t *testing.T) {
	c := Config{URL: "https://gateway.example.com/send", Body: `{"text":{{json .Text}}}`}.withDefaults()
	r, err := parseTemplates(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		n    channel.Notification
		want string
	}{
		{channel.Notification{Title: "Tram", Body: "Opens on Monday", URL: "https://x/1"}, "Tram: Opens on Monday https://x/1"},
		{channel.Notification{Title: "Tram", URL: "https://x/1"}, "Tram https://x/1"},
		{channel.Notification{Title: "Tram"}, "Tram"},
		{channel.Notification{Title: strings.Repeat("я", 300)}, strings.Repeat("я", 67*2)},
	} {
		if text, err := r.wording(test.n, 2); err != nil || text != test.want {
			t.Errorf("%q, %v; want %q", text, err, test.want)
		}
	}
}
