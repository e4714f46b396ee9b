package channeltest

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"newswire/ack/compensate/channel"
)

// Subject is one channel against one server of its protocol.
type Subject struct {
	Channel channel.Channel
	Stray   channel.Channel // the same, but it does not trust the server's certificate; nil: none
	Device  channel.Device  // reaches somebody
	Wrong   []channel.Device
	Server  *Server  // nil: the channel has no provider
	Secrets []string // of the configuration: in no result
	Shows   bool     // a garbled answer with a status of success is one: the body says nothing
	Many    int      // most connections that the channel may have; 0: not counted
}

// Note is a notification to try a channel with; another number, another
// article.
func Note(n int) channel.Notification {
	return channel.Notification{
		CeID:      fmt.Sprintf("0001000000000196a3b0%08d:reader-1", n),
		Reader:    "reader-1",
		MessageID: fmt.Sprintf("0001000000000196a3b0%08d", n),
		Action:    "publish",
		Tags:      []string{"tech", "Küche"},
		Title:     fmt.Sprintf("Title %d", n),
		Body:      "Quotes \" and umlauts äöü, 中文 & <tags>\nand a second line.",
		URL:       "https://news.example.com/a?b=1&c=2",
		Collapse:  fmt.Sprintf("article-%d", n),
		Expires:   time.Now().Add(time.Hour),
		Urgent:    n%2 == 0,
		Count:     1,
		Data:      []byte(`{"id":1}`),
	}
}

// Run tries everything that the service relies on. start makes a subject of
// its own for each test.
func Run(t *testing.T, start func(t *testing.T) Subject) {
	tests := []struct {
		name string
		run  func(*testing.T, Subject)
	}{
		{"Sent", sent}, {"Properties", properties}, {"Check", check}, {"Cancelled", cancelled}, {"ManyAtOnce", manyAtOnce},
	}
	provider := []struct {
		name string
		run  func(*testing.T, Subject)
	}{
		{"Gone", gone}, {"Throttled", throttled}, {"Refused", refused}, {"Down", down}, {"Unavailable", unavailable},
		{"AnswerLostBehindAcceptance", answerLost}, {"NoAnswer", noAnswer}, {"GarbledAnswer", garbled},
		{"EndlessAnswer", endless}, {"InternalError", broken}, {"Redirected", redirected}, {"UntrustedCertificate", untrusted},
		{"NothingSecretInResults", nothingSecret},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { t.Parallel(); test.run(t, start(t)) })
	}
	for _, test := range provider {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			if s.Server == nil {
				t.Skip("the channel has no provider")
			}
			test.run(t, s)
		})
	}
}

var oneWord = regexp.MustCompile(`^[a-z0-9_]{1,40}$`)

// send makes one attempt and holds the result against what the server saw:
// what it took may not be called certainly not accepted, what it did not take
// may not be called sent.
func send(t *testing.T, s Subject, c channel.Channel, n channel.Notification) channel.Result {
	t.Helper()
	before := taken(s)
	start := time.Now()
	r := c.Send(t.Context(), s.Device, n)
	if late := time.Since(start) - c.Properties().Timeout; late > 20*time.Second {
		t.Errorf("Send returned %s behind its timeout", late)
	}
	wellFormed(t, s, r)
	switch accepted := taken(s) > before; {
	case accepted && r.Outcome != channel.Sent && r.Outcome != channel.Doubtful:
		t.Errorf("the provider has accepted it, but the channel says %s (%s)", r.Outcome, r.Reason)
	case !accepted && s.Server != nil && r.Outcome == channel.Sent:
		t.Error("the channel says sent, but the provider has not accepted it")
	}
	return r
}

func taken(s Subject) int {
	if s.Server == nil {
		return 0
	}
	return len(s.Server.Accepted())
}

func wellFormed(t *testing.T, s Subject, r channel.Result) {
	t.Helper()
	if r.Outcome != channel.Sent && !oneWord.MatchString(r.Reason) {
		t.Errorf("reason %q of %s is not one short word", r.Reason, r.Outcome)
	}
	if len(r.Detail) > 200 || !utf8.ValidString(r.Detail) || strings.ContainsAny(r.Detail, "\n\r\x00") {
		t.Errorf("detail %q is not one line of at most 200 bytes", r.Detail)
	}
	secrets := append([]string{s.Device.Address}, s.Secrets...)
	for _, v := range s.Device.Keys {
		secrets = append(secrets, v)
	}
	for _, secret := range secrets {
		if secret != "" && strings.Contains(r.Reason+" "+r.Detail+" "+r.ProviderID, secret) {
			t.Errorf("the result names %q: %+v", secret, r)
		}
	}
}

func want(t *testing.T, r channel.Result, outcomes ...channel.Outcome) {
	t.Helper()
	for _, o := range outcomes {
		if r.Outcome == o {
			return
		}
	}
	t.Errorf("outcome %s (%s: %s), want %v", r.Outcome, r.Reason, r.Detail, outcomes)
}

func sent(t *testing.T, s Subject) {
	for n := range 3 {
		want(t, send(t, s, s.Channel, Note(n)), channel.Sent)
	}
	if s.Server == nil {
		return
	}
	got := s.Server.Accepted()
	if len(got) != 3 {
		t.Fatalf("the provider has %d, want 3", len(got))
	}
	for n, a := range got {
		if p := s.Channel.Properties(); p.Title > 0 && !strings.Contains(a.Text, Note(n).Title) {
			t.Errorf("the reader sees %q, without the title", a.Text)
		}
		if !strings.Contains(a.Text, `Quotes " and umlauts äöü`) {
			t.Errorf("the reader sees %q, without the text", a.Text)
		}
	}
}

func properties(t *testing.T, s Subject) {
	p := s.Channel.Properties()
	if p.Timeout <= 0 {
		t.Errorf("Timeout is %s", p.Timeout)
	}
	if p.Title < 0 || p.Body < 0 {
		t.Errorf("limits are %d and %d", p.Title, p.Body)
	}
	if again := s.Channel.Properties(); again != p {
		t.Errorf("the properties change: %+v, then %+v", p, again)
	}
	if p.WithDevices != (s.Device.Address != "") {
		t.Errorf("WithDevices is %t", p.WithDevices)
	}
}

func check(t *testing.T, s Subject) {
	if err := s.Channel.Check(s.Device); err != nil {
		t.Errorf("Check of a right device: %v", err)
	}
	if !s.Channel.Properties().WithDevices {
		return
	}
	wrong := append([]channel.Device{{}, {Reader: "reader-1", Address: strings.Repeat("a", 1<<20)}}, s.Wrong...)
	for _, d := range wrong {
		err := s.Channel.Check(d)
		if err == nil {
			t.Errorf("Check takes %.80q with keys %.80v", d.Address, d.Keys)
		} else if strings.Contains(err.Error(), "\n") || len(err.Error()) > 400 {
			t.Errorf("Check's answer is no sentence: %.500q", err.Error())
		}
	}
}

func cancelled(t *testing.T, s Subject) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	before := taken(s)
	r := s.Channel.Send(ctx, s.Device, Note(0))
	if s.Server != nil {
		want(t, r, channel.Temporary)
	}
	if got := taken(s); got != before {
		t.Errorf("the provider has %d after a send that was cancelled before it began", got)
	}
}

func manyAtOnce(t *testing.T, s Subject) {
	const many = 64
	var wg sync.WaitGroup
	results := make(chan channel.Result, many)
	for n := range many {
		wg.Go(func() { results <- s.Channel.Send(t.Context(), s.Device, Note(n)) })
	}
	wg.Wait()
	close(results)
	for r := range results {
		want(t, r, channel.Sent)
	}
	if s.Server == nil {
		return
	}
	if got := s.Server.Shown(); got != many {
		t.Errorf("the provider shows %d, want %d", got, many)
	}
	if got := s.Server.MostConnections(); s.Many > 0 && got > s.Many {
		t.Errorf("there were %d connections at once, want at most %d", got, s.Many)
	}
}
