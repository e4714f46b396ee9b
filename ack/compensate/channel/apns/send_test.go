package apns_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"newswire/ack/compensate/channel"
	"newswire/ack/compensate/channel/apns"
	"newswire/ack/compensate/channel/apns/apnstest"
	"newswire/ack/compensate/channel/channeltest"
)

func start(t *testing.T, c apns.Config) *apns.Channel {
	t.Helper()
	ch, err := apns.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ch.Close() })
	return ch
}

func TestAPNsDoesWhatEveryChannelDoes(t *testing.T) {
	channeltest.Run(t, func(t *testing.T) channeltest.Subject {
		s := apnstest.Start(t)
		stray := s.Config()
		stray.HTTP.CAFile = ""
		return channeltest.Subject{
			Channel: start(t, s.Config()), Stray: start(t, stray), Device: s.Register("reader-1"), Server: s.Server, Shows: true, Many: 16,
			Wrong: []channel.Device{{Address: "../../etc"}, {Address: "abc"}, {Address: strings.Repeat("zz", 32)}, {Address: strings.Repeat("a", 64) + "\n"}},
		}
	})
}

func TestHeadersAreWhatTheDeviceNeeds(t *testing.T) {
	s := apnstest.Start(t)
	ch, d := start(t, s.Config()), s.Register("reader-1")
	urgent, calm := channeltest.Note(0), channeltest.Note(1)
	urgent.Urgent, calm.Urgent, calm.Collapse, calm.Expires = true, false, "", time.Time{}
	for _, n := range []channel.Notification{urgent, urgent, calm} {
		if r := ch.Send(t.Context(), d, n); r.Outcome != channel.Sent || r.ProviderID == "" {
			t.Fatalf("%+v", r)
		}
	}
	got := s.Accepted()
	if h := got[0].Header; h.Get("Apns-Priority") != "10" || h.Get("Apns-Collapse-Id") != urgent.Collapse {
		t.Errorf("urgent: %v", h)
	}
	if a, b := got[0].Header.Get("Apns-Id"), got[1].Header.Get("Apns-Id"); a != b {
		t.Errorf("a repeat has the id %s, the first %s", b, a)
	}
	if h := got[2].Header; h.Get("Apns-Priority") != "5" || h.Get("Apns-Collapse-Id") != "" || h.Get("Apns-Id") == got[0].Header.Get("Apns-Id") {
		t.Errorf("calm: %v", h)
	}
	if s.Tokens() != 1 {
		t.Errorf("%d provider tokens for three requests", s.Tokens())
	}
}

func TestProviderTokenIsRenewedBetween20And60Minutes(t *testing.T) {
	s := apnstest.Start(t)
	ch, now, add := apns.NewAt(t, s.Config())
	s.Clock(now)
	d := s.Register("reader-1")
	for minute := range 240 {
		if r := ch.Send(t.Context(), d, channeltest.Note(minute)); r.Outcome != channel.Sent {
			t.Fatalf("minute %d: %+v", minute, r)
		}
		add(time.Minute)
	}
	if got := s.Tokens(); got != 6 {
		t.Errorf("%d tokens in four hours, want 6", got)
	}
}

func TestExpiredProviderTokenIsRenewedOnce(t *testing.T) {
	s := apnstest.Start(t)
	ch, now, add := apns.NewAt(t, s.Config())
	s.Clock(now)
	d := s.Register("reader-1")
	if r := ch.Send(t.Context(), d, channeltest.Note(0)); r.Outcome != channel.Sent {
		t.Fatalf("%+v", r)
	}
	add(time.Minute)
	s.Expire()
	if r := ch.Send(t.Context(), d, channeltest.Note(1)); r.Outcome != channel.Sent {
		t.Fatalf("with a token that is called expired: %+v", r)
	}
	if s.Tokens() != 2 || len(s.Accepted()) != 2 {
		t.Errorf("%d tokens, %d accepted, want 2 and 2", s.Tokens(), len(s.Accepted()))
	}
	add(time.Minute)
	s.Expire()
	before := s.Requests()
	if r := ch.Send(t.Context(), d, channeltest.Note(2)); r.Outcome != channel.Temporary || r.Reason != "expired_provider_token" || !r.Everybody {
		t.Errorf("called expired again at once: %+v", r)
	}
	if s.Requests() != before+1 {
		t.Error("a token is renewed again within 20 minutes")
	}
}

// Apple says the same of a token that is none and of every token, where the service is
// configured for the wrong environment or app: then no device must be deleted.
func TestNoDeviceIsDeletedBeforeOneWasReached(t *testing.T) {
	s := apnstest.Start(t)
	ch, good, foreign := start(t, s.Config()), s.Register("reader-1"), s.Register("reader-2")
	s.Foreign(foreign)
	for i, step := range []struct {
		to      channel.Device
		outcome channel.Outcome
		reason  string
	}{{foreign, channel.Permanent, "bad_device_token"}, {good, channel.Sent, ""}, {foreign, channel.Gone, "bad_device_token"}} {
		if r := ch.Send(t.Context(), step.to, channeltest.Note(i)); r.Outcome != step.outcome || r.Reason != step.reason {
			t.Errorf("call %d: %+v, want %s %s", i, r, step.outcome, step.reason)
		}
	}
}

func TestKeysAreCheckedAndNeverShown(t *testing.T) {
	s := apnstest.Start(t)
	c := s.Config()
	text, err := os.ReadFile(c.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	wrong := strings.Replace(string(text), "A", "B", 3)
	if err := os.WriteFile(c.KeyFile, []byte(wrong), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := apns.New(c); err == nil || strings.Contains(err.Error(), strings.Split(wrong, "\n")[1]) {
		t.Errorf("New with a damaged key: %v", err)
	}
	_, err = apns.New(apns.Config{URL: "http://user:secret@x/y"})
	for _, want := range []string{"key_file", "key_id", "team_id", "topic", "url"} {
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v does not name %s, or a secret", err, want)
		}
	}
}
