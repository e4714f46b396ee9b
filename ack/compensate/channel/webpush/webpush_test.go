package webpush_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"newswire/ack/compensate/channel"
	"newswire/ack/compensate/channel/channeltest"
	"newswire/ack/compensate/channel/webpush"
	"newswire/ack/compensate/channel/webpush/webpushtest"
)

// start gives a channel, closed when the test ends, to a push service.
func start(t *testing.T, c webpush.Config) *webpush.Channel {
	t.Helper()
	ch, err := webpush.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ch.Close() })
	return ch
}

func TestWebPushDoesWhatEveryChannelDoes(t *testing.T) {
	channeltest.Run(t, func(t *testing.T) channeltest.Subject {
		s := webpushtest.Start(t)
		d := s.Subscribe("reader-1")
		stray := s.Config()
		stray.HTTP.CAFile = ""
		with := func(name, value string) channel.Device {
			keys := map[string]string{"p256dh": d.Keys["p256dh"], "auth": d.Keys["auth"]}
			keys[name] = value
			return channel.Device{Address: d.Address, Keys: keys}
		}
		return channeltest.Subject{
			Channel: start(t, s.Config()), Stray: start(t, stray), Device: d, Server: s.Server, Shows: true, Many: 16,
			Wrong: []channel.Device{
				{Address: d.Address},
				{Address: "http://updates.push.services.mozilla.com/x", Keys: d.Keys},
				{Address: "https://user:password@push.example.com/x", Keys: d.Keys},
				with("auth", "AAAA"), with("auth", "no base64"), with("p256dh", "AAAA"),
				with("p256dh", base64.RawURLEncoding.EncodeToString(append([]byte{4}, make([]byte, 64)...))),
			},
		}
	})
}

func TestHeadersAndPayloadAreWhatTheReaderNeeds(t *testing.T) {
	s := webpushtest.Start(t)
	ch, d := start(t, s.Config()), s.Subscribe("reader-1")
	urgent, calm, stale, endless := channeltest.Note(0), channeltest.Note(1), channeltest.Note(2), channeltest.Note(3)
	urgent.Urgent, calm.Urgent = true, false
	stale.Expires = time.Now().Add(-time.Second)
	endless.Expires, endless.Collapse = time.Now().Add(365*24*time.Hour), ""
	for _, n := range []channel.Notification{urgent, calm, stale, endless} {
		if r := ch.Send(t.Context(), d, n); r.Outcome != channel.Sent {
			t.Fatalf("%+v", r)
		}
	}
	got := s.Accepted()
	for i, want := range []struct {
		urgency, topic string
		least, most    int
	}{{"high", urgent.Collapse, 3590, 3600}, {"normal", calm.Collapse, 3590, 3600}, {"high", stale.Collapse, 0, 0}, {"normal", "", 2419200, 2419200}} {
		h := got[i].Header
		ttl, _ := strconv.Atoi(h.Get("TTL"))
		if h.Get("Urgency") != want.urgency || h.Get("Topic") != want.topic || ttl < want.least || ttl > want.most {
			t.Errorf("message %d: urgency %q, topic %q, TTL %d, want %+v", i, h.Get("Urgency"), h.Get("Topic"), ttl, want)
		}
	}
	var m struct {
		Title, Body, URL, Tag, ID string
		Count                     int
	}
	if err := json.Unmarshal(got[0].Body, &m); err != nil {
		t.Fatal(err)
	}
	if m.Title != urgent.Title || m.Body != urgent.Body || m.URL != urgent.URL || m.Tag != urgent.Collapse || m.ID != urgent.MessageID || m.Count != 1 {
		t.Errorf("the service worker gets %+v of %+v", m, urgent)
	}
}

func TestLongTextsAreShortenedToOneRecord(t *testing.T) {
	s := webpushtest.Start(t)
	ch, d := start(t, s.Config()), s.Subscribe("reader-1")
	n := channeltest.Note(0)
	n.Title, n.Body = strings.Repeat("\x01", 5000), strings.Repeat("\u2028", 5000) // six bytes each in JSON
	n.URL = "https://news.example.com/" + strings.Repeat("a", 1500)
	if r := ch.Send(t.Context(), d, n); r.Outcome != channel.Sent {
		t.Errorf("%+v", r)
	}
	n.URL = strings.Repeat("\x02", 5000)
	if r := ch.Send(t.Context(), d, n); r.Outcome != channel.Sent {
		t.Errorf("%+v", r)
	}
}

// Readers write endpoints: none may lead into the network behind the service.
func TestReadersCannotAimTheServiceAtPrivateAddresses(t *testing.T) {
	s := webpushtest.Start(t)
	c := s.Config()
	c.AllowPrivate = false
	ch, d := start(t, c), s.Subscribe("reader-1")
	for _, host := range []string{
		"127.0.0.1", "localhost", "localhost.", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
		"[::1]", "[fd00::1]", "[fe80::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[fe80::1%25eth0]", "2130706433", "0x7f000001", "127.1",
		"db", "db.internal", "printer.local", "a.localhost", "push.example.com:22", s.URL()[len("https://"):],
	} {
		d.Address = "https://" + host + "/push"
		if err := ch.Check(d); err == nil {
			t.Errorf("Check takes %s", d.Address)
		}
		if r := ch.Send(t.Context(), d, channeltest.Note(0)); r.Outcome != channel.Permanent || r.Everybody {
			t.Errorf("%s: %+v", d.Address, r)
		}
	}
	for _, host := range []string{"fcm.googleapis.com", "updates.push.services.mozilla.com:443", "9.9.9.9", "[2620:fe::fe]"} {
		d.Address = "https://" + host + "/push"
		if err := ch.Check(d); err != nil {
			t.Errorf("Check refuses %s: %v", d.Address, err)
		}
	}
	if got := s.Requests(); got != 0 {
		t.Errorf("the server in the private network has %d requests", got)
	}
}

func TestOnlyListedHostsAreServed(t *testing.T) {
	s := webpushtest.Start(t)
	c, d := s.Config(), s.Subscribe("reader-1")
	c.AllowPrivate, c.Hosts = false, []string{"*.push.example.com", "push.example.org:8443"}
	ch := start(t, c)
	for address, allowed := range map[string]bool{
		"https://a.push.example.com/x":              true,
		"https://A.PUSH.EXAMPLE.COM./x":             true,
		"https://push.example.com/x":                false,
		"https://evilpush.example.com/x":            false,
		"https://push.example.org:8443/x":           true,
		"https://push.example.org/x":                false,
		"https://a.push.example.com:8443/x":         false,
		"https://a.push.example.com.evil.org/x":     false,
		"https://fcm.googleapis.com/x":              false,
		"https://evil.org/https://push.example.org": false,
	} {
		d.Address = address
		if err := ch.Check(d); (err == nil) != allowed {
			t.Errorf("Check(%s) = %v", address, err)
		}
	}
}

// A name that is public when it is checked may lead elsewhere when it is
// called.
func TestTheAddressIsCheckedAgainWhenItIsCalled(t *testing.T) {
	s := webpushtest.Start(t)
	c, d := s.Config(), s.Subscribe("reader-1")
	host := strings.TrimPrefix(s.URL(), "https://")
	c.AllowPrivate, c.Hosts = false, []string{host} // named, so only the connection is guarded
	ch := start(t, c)
	r := ch.Send(t.Context(), d, channeltest.Note(0))
	if r.Outcome != channel.Permanent || r.Reason != "forbidden_address" {
		t.Errorf("%+v, want forbidden_address", r)
	}
	if got := s.Requests(); got != 0 {
		t.Errorf("the server in the private network has %d requests", got)
	}
}

// What a host says that only a reader has named must not stop the channel.
func TestOnlyKnownPushServicesSpeakForEverybody(t *testing.T) {
	s := webpushtest.Start(t)
	c, d := s.Config(), s.Subscribe("reader-1")
	unknown := start(t, c)
	c.Hosts = []string{strings.TrimPrefix(s.URL(), "https://")}
	known := start(t, c)
	for _, test := range []struct {
		ch        *webpush.Channel
		everybody bool
	}{{unknown, false}, {known, true}} {
		s.Next(channeltest.Unavailable)
		if r := test.ch.Send(t.Context(), d, channeltest.Note(0)); r.Outcome != channel.Throttled || r.Everybody != test.everybody {
			t.Errorf("%+v, want everybody %t", r, test.everybody)
		}
	}
}

func TestKeysAreReadAsToolsWriteThem(t *testing.T) {
	// The example key of RFC 8292 is of no known scalar; this one is of RFC 8291 §5.
	const scalar, public = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw", "BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8"
	c := webpushtest.Start(t).Config()
	c.KeyFile = filepath.Join(t.TempDir(), "vapid")
	for _, text := range []string{scalar, scalar + "=\n", " " + scalar + "\n"} {
		if err := os.WriteFile(c.KeyFile, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := start(t, c).Properties().PublicKey; got != public {
			t.Errorf("public key %s, want %s", got, public)
		}
	}
	for _, text := range []string{"", "nonsense", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", scalar[:20], strings.Repeat("A", 43)} {
		if err := os.WriteFile(c.KeyFile, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := webpush.New(c); err == nil || text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("New with the key %q: %v", text, err)
		}
	}
}

func TestWrongConfigurationNamesEveryFault(t *testing.T) {
	_, err := webpush.New(webpush.Config{Subject: "desk", Hosts: []string{"https://x"}})
	for _, want := range []string{"key_file", "subject", "hosts"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}

func ExampleGenerateKey() {
	pem, public, err := webpush.GenerateKey()
	if err != nil {
		fmt.Println(err)
	}
	first, _, _ := strings.Cut(string(pem), "\n")
	fmt.Println(first, len(public))
	// Output: -----BEGIN PRIVATE KEY----- 87
}
