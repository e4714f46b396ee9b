package sms_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"newswire/ack/compensate/channel"
	"newswire/ack/compensate/channel/channeltest"
	"newswire/ack/compensate/channel/sms"
	"newswire/ack/compensate/channel/sms/smstest"
)

func start(t *testing.T, c sms.Config) *sms.Channel {
	t.Helper()
	ch, err := sms.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ch.Close() })
	return ch
}

// kinds are the gateways that all tests run against.
var kinds = map[string]smstest.Gateway{
	"JSON":           {},
	"JSONWithIDs":    {Dedupes: true},
	"Form":           {Form: true},
	"FormInTheQuery": {Form: true, Method: http.MethodGet},
	"FormPutWithIDs": {Form: true, Method: http.MethodPut, Dedupes: true},
	"QueryWithIDs":   {Form: true, Method: http.MethodGet, Dedupes: true},
}

func TestSMSDoesWhatEveryChannelDoes(t *testing.T) {
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			channeltest.Run(t, func(t *testing.T) channeltest.Subject {
				s := smstest.Start(t, kind)
				stray, many := s.Config(), 16
				if !kind.Dedupes {
					many = 0 // a connection each: the server sees the end of one behind the next one's beginning
				}
				stray.HTTP.CAFile = ""
				return channeltest.Subject{
					Channel: start(t, s.Config()), Stray: start(t, stray), Device: s.Telephone("reader-1"), Server: s.Server,
					Secrets: s.Secrets(), Shows: kind.Form, Many: many,
					Wrong: []channel.Device{
						{Address: "01701234567"}, {Address: "+0170123456"}, {Address: "+49 170 1234567"}, {Address: "+4917012345678901"},
						{Address: "+49170123456\n"}, {Address: "+49170123456&To=+1"}, {Address: "+４９170123456"},
					},
				}
			})
		})
	}
}

// A text message cannot be taken back: whatever the gateway does to its
// connections, one attempt is one request.
func TestNoTextIsEverSentTwice(t *testing.T) {
	for name, kind := range kinds {
		if kind.Dedupes {
			continue
		}
		t.Run(name, func(t *testing.T) {
			s := smstest.Start(t, kind)
			ch, d := start(t, s.Config()), s.Telephone("reader-1")
			if ch.Properties().Dedupes {
				t.Fatal("the channel says that it dedupes")
			}
			attempts := 0
			for n := range 40 {
				switch n % 4 {
				case 1:
					s.Next(channeltest.HangUp) // on a connection that was used before
				case 3:
					s.Down()
					s.Up() // all connections are closed under the client
				}
				attempts++
				r := ch.Send(t.Context(), d, channeltest.Note(n))
				want := channel.Sent
				if n%4 == 1 {
					want = channel.Doubtful
				}
				if r.Outcome != want {
					t.Errorf("attempt %d: %+v, want %s", n, r, want)
				}
				if got := s.Requests(); got > attempts {
					t.Fatalf("%d requests for %d attempts", got, attempts)
				}
			}
			if s.Shown() != s.Requests() {
				t.Errorf("%d texts of %d requests", s.Shown(), s.Requests())
			}
		})
	}
}

func TestLongTextsAreShortenedNotRefused(t *testing.T) {
	s := smstest.Start(t, smstest.Gateway{})
	c := s.Config()
	c.Segments = 2
	ch, d := start(t, c), s.Telephone("reader-1")
	long, unicode, address := channeltest.Note(0), channeltest.Note(1), channeltest.Note(2)
	long.Body, unicode.Body = strings.Repeat("word ", 500), strings.Repeat("中文 ", 500)
	address.Body, address.URL = "Body", "https://news.example.com/"+strings.Repeat("a", 400)
	for _, n := range []channel.Notification{long, unicode, address} {
		if r := ch.Send(t.Context(), d, n); r.Outcome != channel.Sent {
			t.Fatalf("%+v", r)
		}
	}
	got := s.Accepted()
	if text := got[0].Text; !strings.HasSuffix(text, "... "+long.URL) || len(text) > 306 || len(text) < 300 {
		t.Errorf("GSM 7: %d characters, %q", len(text), text)
	}
	if text := got[1].Text; !strings.HasSuffix(text, "... "+unicode.URL) || len([]rune(text)) > 134 || len([]rune(text)) < 130 {
		t.Errorf("UCS-2: %d characters, %q", len([]rune(text)), text)
	}
	if text := got[2].Text; text != "Title 2: Body" {
		t.Errorf("an address that is too long: %q", text)
	}
}

func TestOnlyServedCountriesAreCalled(t *testing.T) {
	s := smstest.Start(t, smstest.Gateway{})
	c := s.Config()
	c.Prefixes = []string{"+49170", "+43"}
	ch := start(t, c)
	for number, served := range map[string]bool{"+491701234567": true, "+43123456789": true, "+491601234567": false, "+8811234567": false} {
		if err := ch.Check(channel.Device{Address: number}); (err == nil) != served {
			t.Errorf("Check(%s) = %v", number, err)
		}
	}
	if r := ch.Send(t.Context(), channel.Device{Address: "+8811234567"}, channeltest.Note(0)); r.Outcome != channel.Permanent || s.Requests() != 0 {
		t.Errorf("%+v after %d requests", r, s.Requests())
	}
}

func TestWrongConfigurationNamesEveryFault(t *testing.T) {
	right := sms.Config{URL: "https://gateway.example.com/send", Body: `{"to":{{json .To}},"text":{{json .Text}}}`}
	if err := right.Validate(); err != nil {
		t.Fatalf("a right configuration: %v", err)
	}
	for want, change := range map[string]func(*sms.Config){
		"url":                 func(c *sms.Config) { c.URL = "http://gateway.example.com" },
		"password":            func(c *sms.Config) { c.URL = "https://user:secret@gateway.example.com" },
		"method":              func(c *sms.Config) { c.Method = "DELETE" },
		"body is empty":       func(c *sms.Config) { c.Body = "" },
		"body and form":       func(c *sms.Config) { c.Form = map[string]string{"a": "b"} },
		"no GET":              func(c *sms.Config) { c.Method = "GET" },
		"makes no JSON":       func(c *sms.Config) { c.Body = `{"text":"{{.Text}}"}` },
		"template body":       func(c *sms.Config) { c.Body = `{{.Number}}` },
		"read the template":   func(c *sms.Config) { c.Body = `{{` },
		"leaves out .Body":    func(c *sms.Config) { c.Text = "{{.Title}}" },
		"segments":            func(c *sms.Config) { c.Segments = 99 },
		"prefixes":            func(c *sms.Config) { c.Prefixes = []string{"49"} },
		"go together":         func(c *sms.Config) { c.Username = "a" },
		"more than one line":  func(c *sms.Config) { c.Headers = map[string]string{"A": "b\r\nc"} },
		"no name of a header": func(c *sms.Config) { c.IdempotencyHeader = "a b" },
		"answers[0]: status":  func(c *sms.Config) { c.Answers = []sms.Rule{{Status: "2xx", Outcome: "sent"}} },
		"answers[0]: outcome": func(c *sms.Config) { c.Answers = []sms.Rule{{Status: "200", Outcome: "ok"}} },
		"answers[0]: values":  func(c *sms.Config) { c.Answers = []sms.Rule{{Values: []string{"0"}, Outcome: "sent"}} },
		"answers[0]: reason":  func(c *sms.Config) { c.Answers = []sms.Rule{{Reason: "A b", Outcome: "sent"}} },
		"http.timeout":        func(c *sms.Config) { c.HTTP.Timeout = 1 },
	} {
		c := right
		change(&c)
		if _, err := sms.New(c); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", want, err)
		}
	}
}

// A gateway that answers 200 with its own code in the body.
func Example() {
	_, err := sms.New(sms.Config{
		URL:  "https://gateway.example.com/send",
		Body: `{"to":{{json .To}},"text":"{{.Text}}"}`,
		Answers: []sms.Rule{
			{Status: "200", Field: "messages.0.status", Values: []string{"0"}, Outcome: "sent"},
		},
	})
	fmt.Println(err)
	// Output: body: the template makes no JSON: write {{json .Text}}, without quotes around it, for every value
}
