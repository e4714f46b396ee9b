// Package webhooktest is a receiver of webhooks on the loopback interface. It
// checks the signature as the Standard Webhooks specification tells receivers
// to, and shows each webhook-id once.
package webhooktest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"newswire/ack/compensate/channel/channeltest"
	"newswire/ack/compensate/channel/webhook"
	"newswire/ack/compensate/channel/wire"
)

// Secret is what both sides know.
const Secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// Server is the receiver.
type Server struct {
	*channeltest.Server
	config webhook.Config
}

// Start runs a receiver until the test ends.
func Start(t testing.TB) *Server {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(Secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &Server{}
	s.Server = channeltest.Start(t, protocol{}, false)
	s.config = webhook.Config{URL: s.URL() + "/hook?site=1", SecretFiles: []string{file}, HTTP: wire.Config{Timeout: 10 * time.Second, CAFile: s.CAFile()}}
	return s
}

// Config is that of a sender to this receiver.
func (s *Server) Config() webhook.Config { return s.config }

// protocol is the receiver's side.
type protocol struct{}

// Verify checks one webhook.
func (protocol) Verify(r *http.Request, body []byte) (a channeltest.Accepted, err error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(Secret, "whsec_"))
	if err != nil {
		return a, err
	}
	id, timestamp := r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || time.Since(time.Unix(seconds, 0)).Abs() > 5*time.Minute {
		return a, fmt.Errorf("webhook-timestamp %q", timestamp)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + timestamp + "."))
	mac.Write(body)
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	if !slices.Contains(strings.Fields(r.Header.Get("webhook-signature")), want) {
		return a, errors.New("no signature is right")
	}
	var e struct {
		Type, Timestamp string
		Data            struct {
			CeID    string `json:"ce_id"`
			Reader  string
			Title   string
			Body    string
			Message json.RawMessage
		}
	}
	if err := json.Unmarshal(body, &e); err != nil || r.Method != http.MethodPost || r.URL.RequestURI() != "/hook?site=1" || r.Header.Get("Content-Type") != "application/json" {
		return a, fmt.Errorf("%s %s: %w", r.Method, r.URL, err)
	}
	if e.Type != "newswire.offline.v1" || e.Timestamp == "" || e.Data.CeID == "" || e.Data.Reader == "" || len(id) < 16 || strings.Contains(id, ".") {
		return a, fmt.Errorf("the webhook %q: %s", id, body)
	}
	return channeltest.Accepted{To: e.Data.Reader, Dedupe: id, Text: e.Data.Title + "\n" + e.Data.Body, Body: body}, nil
}

// Answer answers as a receiver does.
func (protocol) Answer(w http.ResponseWriter, r *http.Request, b channeltest.Behaviour, words string) {
	w.WriteHeader(map[channeltest.Behaviour]int{
		channeltest.Accept: http.StatusNoContent, channeltest.Gone: http.StatusGone, channeltest.Throttle: http.StatusTooManyRequests,
		channeltest.Refuse: http.StatusUnprocessableEntity, channeltest.Unavailable: http.StatusServiceUnavailable,
		channeltest.Echo: http.StatusBadRequest,
	}[b])
	if b != channeltest.Accept {
		io.WriteString(w, words)
	}
}
