package fcm

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"newswire/ack/compensate/channel"
	"newswire/ack/compensate/channel/wire"
)

// NewAt gives the tests outside the package a channel with a clock.
func NewAt(t *testing.T, c Config, now func() time.Time) *Channel {
	t.Helper()
	ch, err := newAt(c, now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ch.Close() })
	return ch
}

func TestAnswersAreUnderstood(t *testing.T) {
	fcmError := func(code string) string {
		return `{"error":{"status":"X","details":[{"@type":"t","errorCode":"` + code + `"}]}}`
	}
	for _, test := range []struct {
		status    int
		body      string
		outcome   channel.Outcome
		reason    string
		everybody bool
	}{
		{200, `{"name":"projects/p/messages/1"}`, channel.Sent, "", false},
		{404, fcmError("UNREGISTERED"), channel.Gone, "unregistered", false},
		{404, `{"error":{"status":"NOT_FOUND"}}`, channel.Temporary, "not_found", true},
		{400, fcmError("INVALID_ARGUMENT"), channel.Permanent, "invalid_argument", false},
		{400, `{"error":{"status":"INVALID_ARGUMENT","details":[{"errorCode":"INVALID_ARGUMENT"},{"fieldViolations":[{"field":"message.token"}]}]}}`, channel.Gone, "invalid_token", false},
		{400, `{"error":{"message":"The registration token is not a valid FCM registration token","status":"INVALID_ARGUMENT","details":[{"errorCode":"INVALID_ARGUMENT"}]}}`, channel.Gone, "invalid_token", false},
		{400, `{"error":{"status":"INVALID_ARGUMENT","details":[{"fieldViolations":[{"field":"message.data"}]}]}}`, channel.Permanent, "invalid_argument", false},
		{403, fcmError("SENDER_ID_MISMATCH"), channel.Permanent, "sender_id_mismatch", false},
		{403, `{"error":{"status":"PERMISSION_DENIED"}}`, channel.Temporary, "permission_denied", true},
		{429, fcmError("QUOTA_EXCEEDED"), channel.Throttled, "quota_exceeded", true},
		{429, `<html>`, channel.Throttled, "http_429", true},
		{503, fcmError("UNAVAILABLE"), channel.Throttled, "unavailable", true},
		{401, `{"error":{"status":"UNAUTHENTICATED"}}`, channel.Temporary, unauthenticated, true},
		{401, ``, channel.Temporary, unauthenticated, true},
		{401, fcmError("THIRD_PARTY_AUTH_ERROR"), channel.Temporary, "third_party_auth_error", true},
		{500, fcmError("INTERNAL"), channel.Doubtful, "internal", true},
		{504, ``, channel.Doubtful, "http_504", true},
		{302, ``, channel.Permanent, "http_302", false},
		{204, ``, channel.Doubtful, "http_204", true},
	} {
		r := result(wire.Answer{Status: test.status, Body: []byte(test.body)}, channel.Device{}, "")
		if r.Outcome != test.outcome || r.Reason != test.reason || r.Everybody != test.everybody {
			t.Errorf("%d %s: %+v, want %s %s %t", test.status, test.body, r, test.outcome, test.reason, test.everybody)
		}
	}
}

// Google wants a minute where it does not say how long.
func TestAQuotaIsGivenAMinute(t *testing.T) {
	over := []byte(`{"error":{"status":"RESOURCE_EXHAUSTED","details":[{"errorCode":"QUOTA_EXCEEDED"}]}}`)
	for _, test := range []struct {
		status int
		told   string
		body   []byte
		want   time.Duration
	}{
		{429, "", over, time.Minute},
		{429, "", nil, time.Minute},
		{429, "120", over, 2 * time.Minute},
		{429, "5", over, 5 * time.Second},
		{503, "", nil, 0},
	} {
		a := wire.Answer{Status: test.status, Header: http.Header{"Retry-After": {test.told}}, Body: test.body}
		if got := result(a, channel.Device{}, "").RetryAfter; got != test.want {
			t.Errorf("%d with Retry-After %q: %s, want %s", test.status, test.told, got, test.want)
		}
	}
}

func TestMessagesFitWhateverTheText(t *testing.T) {
	n := channel.Notification{Title: strings.Repeat("\x01", 500), Body: strings.Repeat("\u2028", 5000), URL: strings.Repeat("u", 1900), MessageID: "1"}
	d := channel.Device{Address: strings.Repeat("t", 2000)}
	text, err := encode(d, n)
	if err != nil || len(text) > mostPayload+len(d.Address) {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	n.URL = strings.Repeat("\x01", 2000)
	if _, err := encode(d, n); err == nil {
		t.Error("an address that alone is too long is taken")
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(404, []byte(`{"error":{"details":[{"errorCode":"UNREGISTERED"}]}}`))
	f.Add(200, []byte(`{"access_token":"x","expires_in":-1}`))
	f.Add(200, []byte(`{"access_token":"x\r\ny","expires_in":1e400}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		a := wire.Answer{Status: status, Body: body}
		r := result(a, channel.Device{}, "token")
		if r.Outcome == channel.Sent != (status == 200) || len(r.Reason) > 40 || len(r.Detail) > 200 || len(r.ProviderID) > 128 {
			t.Errorf("%d %q: %+v", status, body, r)
		}
		token, life, err := parseToken(a)
		if err == nil && (status != 200 || token == "" || strings.ContainsAny(token, "\r\n ") || life < 0 || life > mostTokenLife) {
			t.Errorf("%d %q: token %q for %s", status, body, token, life)
		}
	})
}
