package policy

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func newPolicy(t *testing.T, cfg Config) *Policy {
	t.Helper()
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestTheFirstRouteThatFitsCounts(t *testing.T) {
	p := newPolicy(t, Config{
		Channels: map[string]Channel{"push": {Devices: true}, "sms": {Devices: true}, "webhook": {}},
		Routes: []Route{
			{Tags: []string{"breaking"}, Steps: [][]string{{"push"}, {"sms"}}, Urgent: true},
			{Tags: []string{"sport:*"}, Steps: [][]string{{"push", "webhook"}}, Expiry: time.Hour},
		},
	})
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	phones := []Target{{"push", "1"}, {"push", "2"}, {"sms", "3"}}
	for name, c := range map[string]struct {
		tags    []string
		action  string
		devices []Target
		tried   int
		age     time.Duration
		want    Plan
	}{
		"push first":        {[]string{"x", "breaking"}, "publish", phones, 0, 0, Plan{Urgent: true, Step: 1, Targets: phones[:2]}},
		"then sms":          {[]string{"breaking"}, "publish", phones, 1, 0, Plan{Urgent: true, Step: 2, Targets: phones[2:]}},
		"no push device":    {[]string{"breaking"}, "publish", phones[2:], 0, 0, Plan{Urgent: true, Step: 2, Targets: phones[2:]}},
		"nothing left":      {[]string{"breaking"}, "publish", phones, 2, 0, Plan{Urgent: true, Step: 2, Reason: ReasonNoDevice}},
		"prefix":            {[]string{"sport:tennis"}, "publish", phones[:1], 0, 0, Plan{Step: 1, Targets: []Target{phones[0], {"webhook", ""}}}},
		"prefix alone":      {[]string{"sport"}, "publish", phones, 0, 0, Plan{Reason: ReasonNoRoute}},
		"its own staleness": {[]string{"sport:x"}, "publish", phones, 0, time.Hour, Plan{Reason: ReasonExpired}},
		"retract":           {[]string{"breaking"}, "retract", phones, 0, 0, Plan{Reason: ReasonRetract}},
	} {
		got := p.Plan(Message{Tags: c.tags, Action: c.action, Time: now.Add(-c.age)}, c.devices, c.tried, now)
		got.Expires = time.Time{}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestWithoutRoutesEverythingButSMSIsUsed(t *testing.T) {
	p := newPolicy(t, Config{Channels: map[string]Channel{"webpush": {}, "sms": {}, "apns": {}}})
	route, ok := p.Route([]string{"any"})
	if !ok || fmt.Sprint(route.Steps) != "[[apns webpush]]" {
		t.Errorf("route %+v, %t", route, ok)
	}
}

func TestWrongPoliciesNameEveryFault(t *testing.T) {
	_, err := New(Config{
		Channels: map[string]Channel{"push": {}},
		Routes:   []Route{{}, {Tags: []string{"*"}, Steps: [][]string{{"push"}, {"push", "pigeon"}}}},
		Texts:    map[string]Text{"de": {Title: "{{.data.title", Body: `{{cut "x" 3}}`}},
	})
	for _, want := range []string{"routes[0] needs tags", `"pigeon"`, `"push" twice`, "texts.de.title", "texts.de.body"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New says %v, want it to name %s", err, want)
		}
	}
}

func TestQuietHoursAreTheReadersOwn(t *testing.T) {
	at := func(text string) time.Time {
		t.Helper()
		when, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	for _, c := range []struct{ now, zone, from, to, until string }{
		{"2026-11-23T21:30:00Z", "Europe/Vienna", "22:00", "07:00", "2026-11-24T06:00:00Z"}, // 22:30 there
		{"2026-11-23T20:30:00Z", "Europe/Vienna", "22:00", "07:00", ""},
		{"2026-11-24T05:59:59Z", "Europe/Vienna", "22:00", "07:00", "2026-11-24T06:00:00Z"}, // since yesterday
		{"2026-11-24T06:00:00Z", "Europe/Vienna", "22:00", "07:00", ""},
		{"2026-11-23T12:30:00Z", "", "12:00", "13:00", "2026-11-23T13:00:00Z"},
		{"2026-11-23T12:30:00Z", "", "12:00", "12:00", ""}, // nothing
		{"2026-11-23T12:30:00Z", "Nowhere/At All", "12:00", "13:00", ""},
		{"2026-03-28T23:30:00Z", "Europe/Vienna", "22:00", "07:00", "2026-03-29T05:00:00Z"}, // that night has an hour less
		{"2026-10-24T22:30:00Z", "Europe/Vienna", "22:00", "07:00", "2026-10-25T06:00:00Z"}, // and that one an hour more
		{"2026-11-24T03:00:00Z", "America/New_York", "22:00", "07:00", "2026-11-24T12:00:00Z"},
	} {
		until, quiet := Quiet(at(c.now), c.zone, c.from, c.to)
		if quiet != (c.until != "") || quiet && !until.Equal(at(c.until)) {
			t.Errorf("%+v: quiet %t until %s", c, quiet, until.UTC())
		}
	}
}

func message(data string) Message {
	return Message{ID: "m", Tags: []string{"tech"}, Action: "publish", Fields: fields(json.RawMessage(data))}
}

// Small images come without the files of time zones, and then no reader would be left
// alone at night: the program brings them.
func TestTheZonesAreInTheProgram(t *testing.T) {
	deps, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(strings.Fields(string(deps)), "time/tzdata") {
		t.Error("time/tzdata is not linked in")
	}
}

func TestWordsAreInTheReadersLanguageAndFit(t *testing.T) {
	p := newPolicy(t, Config{
		Channels: map[string]Channel{"push": {}},
		Texts: map[string]Text{
			"":   {Title: "{{.data.title}}!"},
			"de": {DigestTitle: "{{.count}} neue Artikel", Title: `{{if eq .action "correct"}}Korrektur: {{end}}{{.data.title}}`},
		},
	})
	one, two := message(`{"title":"Tram","summary":"a\nb","url":"https://x/1","n":1}`), message(`{"title":"Vote","summary":null}`)
	for _, c := range []struct {
		messages []Message
		language string
		want     Words
	}{
		{[]Message{one}, "fr", Words{"Tram!", "a b", "https://x/1"}},
		{[]Message{one}, "de-AT", Words{"Tram", "a b", "https://x/1"}},
		{[]Message{one, two}, "DE", Words{"2 neue Artikel", "Vote · Tram", ""}},
		{[]Message{message(`{}`)}, "", Words{"!", "", ""}},
	} {
		got, err := p.Word(c.messages, c.language, 50, 100)
		if err != nil || got != c.want {
			t.Errorf("%s: %+v, %v; want %+v", c.language, got, err, c.want)
		}
	}
	for _, c := range []struct {
		text string
		most int
		want string
	}{
		{"short", 5, "short"}, {"any", 0, "any"}, {"one two three", 9, "one two…"}, {"Donaudampfschiff", 8, "Donauda…"}, {"äöüäöü", 4, "äöü…"},
	} {
		if got := Cut(c.text, c.most); got != c.want || c.most > 0 && utf8.RuneCountInString(got) > c.most {
			t.Errorf("Cut(%q, %d) = %q, want %q", c.text, c.most, got, c.want)
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add([]byte(`{"id":"1","reader":"u","handed_over":"2026-11-23T09:44:37.2Z","message":{"id":"1","action":"publish","tags":["a"],"source":"s","key":{"id":1},"time":"2026-11-23T09:44:37.2Z","data":{"title":"x","n":1}}}`))
	f.Add([]byte(`{"id":"1","reader":"u","handed_over":"2026-11-23T09:44:37.2Z","message":{"key":[1],"data":[]}}`))
	f.Add([]byte(`{`))
	p, err := New(Config{Channels: map[string]Channel{"push": {}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		m, err := Parse(value)
		if err != nil {
			return
		}
		if m.CeID == ":" || m.Article() == "" || m.Time.IsZero() {
			t.Errorf("Parse took a record without name or time: %+v", m)
		}
		if _, err := p.Word([]Message{m, m}, "de", 10, 10); err != nil {
			t.Errorf("Word: %v", err)
		}
	})
}
