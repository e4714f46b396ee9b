package webhook

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"newswire/ack/compensate/channel"
	"newswire/ack/compensate/channel/wire"
)

// The example that the specification's libraries are tested with.
func TestSignatureIsThatOfTheSpecification(t *testing.T) {
	key, err := parseSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	c := &Channel{keys: [][]byte{key}}
	got := c.signatures("msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestSecretsAreReplacedWithoutAGap(t *testing.T) {
	dir := t.TempDir()
	var files []string
	for i, secret := range []string{"whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("a", 24))), strings.Repeat("b", 32)} {
		file := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(file, []byte(secret), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	now := time.Unix(1, 0)
	sign := func(files ...string) string {
		c, err := New(Config{URL: "https://cms.example.com/", SecretFiles: files})
		if err != nil {
			t.Fatal(err)
		}
		return c.signatures("id", now, nil)
	}
	old, next, both := sign(files[0]), sign(files[1]), sign(files...)
	if both != old+" "+next || old == next {
		t.Errorf("signed with both: %s, want %s and %s", both, old, next)
	}
}

func TestReceiverGetsTheWholeMessage(t *testing.T) {
	now := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	body, err := encode(channel.Notification{CeID: "1:r", Reader: "r", MessageID: "1", Action: "publish", Expires: now, Count: 1, Data: []byte(`{"n":12345678901234567890.10}`)}, now)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"type":"newswire.offline.v1","timestamp":"2026-11-23T09:00:00Z","data":{"ce_id":"1:r","reader":"r","message_id":"1","action":"publish","tags":[],` +
		`"expires":"2026-11-23T09:00:00Z","urgent":false,"count":1,"message":{"n":12345678901234567890.10}}}`
	if string(body) != want {
		t.Errorf("got  %s\nwant %s", body, want)
	}
	if _, err := encode(channel.Notification{Data: []byte("{")}, now); err == nil {
		t.Error("data that is no JSON is sent")
	}
	body, err = encode(channel.Notification{}, now)
	if err != nil || !json.Valid(body) {
		t.Errorf("%s, %v", body, err)
	}
}

func TestAnswersAreUnderstood(t *testing.T) {
	for status, want := range map[int]struct {
		outcome   channel.Outcome
		everybody bool
	}{
		200: {channel.Sent, false}, 204: {channel.Sent, false}, 410: {channel.Gone, false},
		429: {channel.Throttled, true}, 503: {channel.Throttled, true}, 400: {channel.Permanent, false}, 422: {channel.Permanent, false},
		301: {channel.Temporary, true}, 401: {channel.Temporary, true}, 403: {channel.Temporary, true}, 404: {channel.Temporary, true}, 405: {channel.Temporary, true},
		408: {channel.Doubtful, true}, 500: {channel.Doubtful, true}, 502: {channel.Doubtful, true}, 504: {channel.Doubtful, true},
	} {
		r := result(wire.Answer{Status: status, Header: http.Header{}}, nil)
		if r.Outcome != want.outcome || r.Everybody != want.everybody {
			t.Errorf("%d: %+v, want %+v", status, r, want)
		}
	}
}

func TestWrongConfigurationIsOneSentenceEach(t *testing.T) {
	dir := t.TempDir()
	file := func(text string) []string {
		path := filepath.Join(dir, "secret")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return []string{path}
	}
	for want, c := range map[string]Config{
		"url is no":    {URL: "http://cms.example.com", SecretFiles: file(strings.Repeat("a", 24))},
		"secret_files": {URL: "https://cms.example.com"},
		"no base64":    {URL: "https://cms.example.com", SecretFiles: file("whsec_!!!!!!!!!!!!!!!!!!!!!!!!!!!!")},
	} {
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "!!!!") {
			t.Errorf("%q: %v", want, err)
		}
	}
	if _, err := New(Config{URL: "https://cms.example.com", SecretFiles: file("short-secret")}); err == nil || strings.Contains(err.Error(), "short-secret") {
		t.Errorf("a short secret: %v", err)
	}
	if _, err := New(Config{URL: "http://cms.internal/", AllowHTTP: true, SecretFiles: file(strings.Repeat("a", 24))}); err != nil {
		t.Errorf("http where it is allowed: %v", err)
	}
}
