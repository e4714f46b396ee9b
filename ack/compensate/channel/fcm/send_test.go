package fcm_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"newswire/ack/compensate/channel"
	"newswire/ack/compensate/channel/channeltest"
	"newswire/ack/compensate/channel/fcm"
	"newswire/ack/compensate/channel/fcm/fcmtest"
)

func start(t *testing.T, c fcm.Config) *fcm.Channel {
	t.Helper()
	ch, err := fcm.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ch.Close() })
	return ch
}

func TestFCMDoesWhatEveryChannelDoes(t *testing.T) {
	channeltest.Run(t, func(t *testing.T) channeltest.Subject {
		s := fcmtest.Start(t)
		c := s.Config()
		ch := start(t, c)
		d := s.Register("reader-1")
		// The token is there already: what is tried is the message.
		if r := ch.Send(t.Context(), d, channeltest.Note(1000)); r.Outcome != channel.Sent {
			t.Fatalf("%+v", r)
		}
		s.Reset()
		return channeltest.Subject{
			Channel: ch, Stray: stray(t, c), Device: d, Server: s.Server, Shows: true, Many: 17,
			Wrong: []channel.Device{{Address: "short"}, {Address: strings.Repeat("a b", 50)}, {Address: strings.Repeat("a", 64) + "\r\nX: y"}},
		}
	})
}

// stray gives a channel that does not trust the server.
func stray(t *testing.T, c fcm.Config) *fcm.Channel {
	c.HTTP.CAFile = ""
	return start(t, c)
}

// message is what the tests look at.
type message struct {
	Message struct {
		Data    map[string]string
		Android struct {
			CollapseKey   string `json:"collapse_key"`
			TTL, Priority string
		}
		APNS struct{ Headers map[string]string }
	}
}

func TestMessageIsWhatTheDeviceNeeds(t *testing.T) {
	s := fcmtest.Start(t)
	ch, d := start(t, s.Config()), s.Register("reader-1")
	urgent, calm := channeltest.Note(0), channeltest.Note(1)
	urgent.Urgent, calm.Urgent, calm.Expires = true, false, time.Now().Add(-time.Hour)
	for _, n := range []channel.Notification{urgent, calm} {
		if r := ch.Send(t.Context(), d, n); r.Outcome != channel.Sent || r.ProviderID == "" {
			t.Fatalf("%+v", r)
		}
	}
	var first, second message
	for i, m := range []*message{&first, &second} {
		if err := json.Unmarshal(s.Accepted()[i].Body, m); err != nil {
			t.Fatal(err)
		}
	}
	if m := first.Message; m.Android.Priority != "HIGH" || m.Android.CollapseKey != urgent.Collapse || m.Data["url"] != urgent.URL ||
		m.Data["id"] != urgent.MessageID || m.APNS.Headers["apns-priority"] != "10" || m.Android.TTL != "3599s" && m.Android.TTL != "3600s" {
		t.Errorf("urgent: %+v", m)
	}
	if m := second.Message; m.Android.Priority != "NORMAL" || m.Android.TTL != "0s" || m.APNS.Headers["apns-priority"] != "5" {
		t.Errorf("calm and stale: %+v", m)
	}
	if s.Exchanges() != 1 {
		t.Errorf("%d exchanges for two messages", s.Exchanges())
	}
}

func TestAccessTokenIsRenewedBeforeItEnds(t *testing.T) {
	s := fcmtest.Start(t)
	var mu sync.Mutex
	clock := time.Now()
	now := func() time.Time { mu.Lock(); defer mu.Unlock(); return clock }
	s.Clock(now)
	ch, d := fcm.NewAt(t, s.Config(), now), s.Register("reader-1")
	for minute := range 180 {
		if r := ch.Send(t.Context(), d, channeltest.Note(minute)); r.Outcome != channel.Sent {
			t.Fatalf("minute %d: %+v", minute, r)
		}
		mu.Lock()
		clock = clock.Add(time.Minute)
		mu.Unlock()
	}
	if got := s.Exchanges(); got != 4 { // at 0, 59, 118 and 177 minutes
		t.Errorf("%d exchanges in three hours, want 4", got)
	}
	if got := s.Requests() - s.Exchanges(); got != 180 {
		t.Errorf("%d messages of 180 were sent: some met a token that had ended", got)
	}
}

func TestRevokedAccessTokenIsReplacedOnce(t *testing.T) {
	s := fcmtest.Start(t)
	ch, d := start(t, s.Config()), s.Register("reader-1")
	for n := range 2 {
		if r := ch.Send(t.Context(), d, channeltest.Note(n)); r.Outcome != channel.Sent {
			t.Fatalf("%+v", r)
		}
		s.Revoke()
	}
	if s.Exchanges() != 2 || len(s.Accepted()) != 2 {
		t.Errorf("%d exchanges, %d accepted, want 2 and 2", s.Exchanges(), len(s.Accepted()))
	}
	// The token is called none, and no other is given.
	s.NextExchange(400, `{"error":"invalid_grant","error_description":"Invalid JWT Signature."}`)
	r := ch.Send(t.Context(), d, channeltest.Note(3))
	if r.Outcome != channel.Temporary || r.Reason != "oauth_refused" || !r.Everybody || !strings.Contains(r.Detail, "invalid_grant") {
		t.Errorf("%+v", r)
	}
	if r := ch.Send(t.Context(), d, channeltest.Note(3)); r.Outcome != channel.Sent {
		t.Errorf("and the next time: %+v", r)
	}
}

func TestWithoutAnAccessTokenNothingIsInDoubt(t *testing.T) {
	for _, answer := range []struct {
		status int
		body   string
	}{{500, ""}, {200, "{"}, {200, `{"access_token":""}`}, {200, `{"access_token":"a\r\nb","expires_in":3600}`}, {302, ""}} {
		s := fcmtest.Start(t)
		ch, d := start(t, s.Config()), s.Register("reader-1")
		s.NextExchange(answer.status, answer.body)
		if r := ch.Send(t.Context(), d, channeltest.Note(0)); r.Outcome != channel.Temporary || !r.Everybody {
			t.Errorf("%d %s: %+v", answer.status, answer.body, r)
		}
		s.Down()
		if r := ch.Send(t.Context(), d, channeltest.Note(0)); r.Outcome != channel.Temporary {
			t.Errorf("the token endpoint is down: %+v", r)
		}
	}
}

func TestManyRequestsShareOneExchange(t *testing.T) {
	s := fcmtest.Start(t)
	ch := start(t, s.Config())
	var wg sync.WaitGroup
	for n := range 32 {
		d := s.Register(fmt.Sprint("reader-", n))
		wg.Go(func() {
			if r := ch.Send(t.Context(), d, channeltest.Note(n)); r.Outcome != channel.Sent {
				t.Errorf("%+v", r)
			}
		})
	}
	wg.Wait()
	if s.Exchanges() != 1 {
		t.Errorf("%d exchanges", s.Exchanges())
	}
}

func TestCredentialsAreCheckedAndNeverShown(t *testing.T) {
	c := fcmtest.Start(t).Config()
	text, err := os.ReadFile(c.CredentialsFile)
	if err != nil {
		t.Fatal(err)
	}
	key := strings.Split(string(text), `\n`)[2]
	c.CredentialsFile = filepath.Join(t.TempDir(), "account.json")
	for _, damaged := range []string{
		"", "nonsense " + key, string(text)[:len(text)-5], strings.Replace(string(text), key, "AAAA", 1),
		strings.Replace(string(text), "service_account", "authorized_user", 1), strings.Replace(string(text), "https://", "http://", 1),
		strings.Replace(string(text), "news-example\"", "../x\"", 1),
	} {
		if err := os.WriteFile(c.CredentialsFile, []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := fcm.New(c); err == nil || strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), "credentials_file") {
			t.Errorf("New with damaged credentials: %v", err)
		}
	}
	_, err = fcm.New(fcm.Config{Project: "A B", URL: "http://x"})
	for _, want := range []string{"credentials_file", "project", "url"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}

func Example() {
	_, err := fcm.New(fcm.Config{})
	fmt.Println(err)
	// Output: credentials_file is empty: name the JSON file of the service account
}
