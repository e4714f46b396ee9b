package apns

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"newswire/ack/compensate/channel"
	"newswire/ack/compensate/channel/wire"
)

// clock is a time that a test sets.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// NewAt gives the tests outside the package a channel with a clock.
func NewAt(t *testing.T, c Config) (ch *Channel, now func() time.Time, add func(time.Duration)) {
	t.Helper()
	k := &clock{t: time.Now()}
	ch, err := newAt(c, k.now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ch.Close() })
	return ch, k.now, k.add
}

func TestAnswersAreUnderstood(t *testing.T) {
	for _, test := range []struct {
		status    int
		body      string
		outcome   channel.Outcome
		reason    string
		everybody bool
	}{
		{200, "", channel.Sent, "", false},
		{400, `{"reason":"BadDeviceToken"}`, channel.Gone, "bad_device_token", false},
		{400, `{"reason":"DeviceTokenNotForTopic"}`, channel.Gone, "device_token_not_for_topic", false},
		{410, `{"reason":"Unregistered","timestamp":1}`, channel.Gone, "unregistered", false},
		{410, ``, channel.Gone, "http_410", false},
		{429, `{"reason":"TooManyRequests"}`, channel.Throttled, "too_many_requests", false},
		{429, `{"reason":"TooManyProviderTokenUpdates"}`, channel.Throttled, "too_many_provider_token_updates", true},
		{429, `<html>`, channel.Throttled, "http_429", false},
		{503, `{"reason":"Shutdown"}`, channel.Throttled, "shutdown", true},
		{503, ``, channel.Throttled, "http_503", true},
		{413, `{"reason":"PayloadTooLarge"}`, channel.Permanent, "payload_too_large", false},
		{400, `{"reason":"BadCollapseId"}`, channel.Permanent, "bad_collapse_id", false},
		{400, `{"reason":"NeverHeardOf\n"}`, channel.Permanent, "http_400", false},
		{307, ``, channel.Permanent, "http_307", false},
		{403, `{"reason":"ExpiredProviderToken"}`, channel.Temporary, expiredProviderToken, true},
		{403, `{"reason":"InvalidProviderToken"}`, channel.Temporary, "invalid_provider_token", true},
		{400, `{"reason":"TopicDisallowed"}`, channel.Temporary, "topic_disallowed", true},
		{403, `{}`, channel.Temporary, "http_403", true},
		{500, `{"reason":"InternalServerError"}`, channel.Doubtful, "internal_server_error", true},
		{502, ``, channel.Doubtful, "http_502", true},
		{204, ``, channel.Doubtful, "http_204", true},
	} {
		r := result(wire.Answer{Status: test.status, Body: []byte(test.body)}, channel.Device{})
		if r.Outcome != test.outcome || r.Reason != test.reason || r.Everybody != test.everybody {
			t.Errorf("%d %s: %+v, want %s %s %t", test.status, test.body, r, test.outcome, test.reason, test.everybody)
		}
	}
}

func TestPayloadsFitWhateverTheText(t *testing.T) {
	c := &Channel{sound: "default"}
	n := channel.Notification{Title: strings.Repeat("\x01", 500), Body: strings.Repeat("\u2028", 5000), URL: strings.Repeat("u", 1900), MessageID: "1"}
	text, err := c.payload(n)
	if err != nil || len(text) > mostPayload {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	n.URL = strings.Repeat("\x01", 2000)
	if _, err := c.payload(n); err == nil {
		t.Error("an address that alone is too long is taken")
	}
	n.URL = strings.Repeat("u", 5000)
	if text, err := c.payload(n); err != nil || strings.Contains(string(text), "uuuu") {
		t.Errorf("%v, %s", err, text)
	}
}

func TestNotificationIDsAreStableAndOneEach(t *testing.T) {
	n, d := channel.Notification{CeID: "1:r"}, channel.Device{Address: "aa"}
	first := notificationID(n, d)
	if first != notificationID(n, d) {
		t.Error("the id of a repeat is another")
	}
	if first == notificationID(channel.Notification{CeID: "2:r"}, d) || first == notificationID(n, channel.Device{Address: "bb"}) {
		t.Error("two notifications have one id")
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(400, []byte(`{"reason":"BadDeviceToken"}`))
	f.Add(503, []byte(`[`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		r := result(wire.Answer{Status: status, Body: body}, channel.Device{})
		if r.Outcome == channel.Sent != (status == 200) || len(r.Reason) > 40 || strings.ContainsAny(r.Reason, "\" \n") || len(r.Detail) > 200 {
			t.Errorf("%d %q: %+v", status, body, r)
		}
		var reason struct{ Reason string }
		if r.Outcome == channel.Gone && status != 410 && (json.Unmarshal(body, &reason) != nil || reasons[reason.Reason].outcome != channel.Gone) {
			t.Errorf("%d %q deletes a device", status, body)
		}
	})
}

func Example() {
	_, err := New(Config{KeyFile: "AuthKey.p8", KeyID: "short", TeamID: "DEF123GHIJ", Topic: "com.example.news"})
	fmt.Println(err)
	// Output: key_id "short" is not ten capital letters and digits: Apple shows it beside the key
}
