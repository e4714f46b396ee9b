// Package smstest is a gateway for text messages on the loopback interface: one
// that takes JSON, signed and with its outcome in the answer's body, or one
// that takes forms and Basic authentication and answers by status. It checks
// every field, number and signature.
package smstest

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"
	"unicode/utf8"

	"newswire/ack/compensate/channel"
	"newswire/ack/compensate/channel/channeltest"
	"newswire/ack/compensate/channel/sms"
	"newswire/ack/compensate/channel/wire"
)

// Secrets of the gateways' customer.
const (
	apiKey   = "Bearer key-3f9c1a77d2"
	password = "pass word-88120"
	signing  = "signing-secret-551f"
	account  = "AC0001"
	sender   = "Example News"
)

// Gateway says which kind it is.
type Gateway struct {
	Form    bool // forms, Basic authentication, GET or POST
	Method  string
	Dedupes bool // it ignores a repeat with the same id
}

// Server is the gateway.
type Server struct {
	*channeltest.Server
	kind   Gateway
	config sms.Config
}

// Start runs a gateway until the test ends.
func Start(t testing.TB, kind Gateway) *Server {
	t.Helper()
	s := &Server{kind: kind}
	s.Server = channeltest.Start(t, (*protocol)(s), false)
	file := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	c := sms.Config{URL: s.URL() + "/send", Method: kind.Method, From: sender, HTTP: wire.Config{Timeout: 10 * time.Second, CAFile: s.CAFile()}}
	if kind.Form {
		c.Username, c.PasswordFile = account, file("password", password)
		c.Form = map[string]string{"To": "{{.To}}", "From": "{{.From}}", "Body": "{{.Text}}"}
		c.IDField = "sid"
		c.Answers = []sms.Rule{{Status: "400-499", Field: "code", Values: []string{"21614"}, Outcome: "gone", Reason: "not_mobile"}}
	} else {
		c.SecretHeaders = map[string]string{"Authorization": file("key", apiKey)}
		c.Headers = map[string]string{"Accept": "application/json"}
		c.SigningSecretFile = file("signing", signing)
		c.Body = `{"from":{{json .From}},"messages":[{"to":{{json (digits .To)}},"text":{{json .Text}}}]}`
		c.IDField = "messages.0.id"
		c.Answers = []sms.Rule{
			{Status: "200", Field: "messages.0.status", Values: []string{"0"}, Outcome: "sent"},
			{Status: "200", Field: "messages.0.status", Values: []string{"1"}, Outcome: "throttled", Reason: "rate", Everybody: true},
			{Status: "200", Field: "messages.0.status", Values: []string{"6"}, Outcome: "gone", Reason: "unknown_subscriber"},
			{Status: "200", Field: "messages.0.status", Values: []string{"3", "4"}, Outcome: "permanent", Reason: "rejected"},
		}
	}
	if kind.Dedupes {
		c.IdempotencyHeader = "Idempotency-Key"
	}
	s.config = c
	return s
}

// Config is that of a customer of the gateway.
func (s *Server) Config() sms.Config { return s.config }

// Secrets are what must be in no result.
func (s *Server) Secrets() []string { return []string{apiKey, password, signing} }

// Telephone is a new one.
func (s *Server) Telephone(reader string) channel.Device {
	n, err := rand.Prime(rand.Reader, 30) // nine or ten digits
	if err != nil {
		panic(err)
	}
	return channel.Device{ID: "d-" + rand.Text(), Reader: reader, Address: fmt.Sprintf("+49170%08d", n.Uint64()%100_000_000)}
}

// protocol is the gateway's side.
type protocol Server

var number = regexp.MustCompile(`^49170\d{8}$`)

// Verify checks one request.
func (s *protocol) Verify(r *http.Request, body []byte) (channeltest.Accepted, error) {
	if r.URL.Path != "/send" {
		return channeltest.Accepted{}, errors.New("no such path")
	}
	var a channeltest.Accepted
	var err error
	if s.kind.Form {
		a, err = s.verifyForm(r, body)
	} else {
		a, err = s.verifyJSON(r, body)
	}
	switch {
	case err != nil:
		return a, err
	case !number.MatchString(a.To):
		return a, fmt.Errorf("number %q", a.To)
	case a.Text == "" || utf8.RuneCountInString(a.Text) > 459 || !utf8.ValidString(a.Text):
		return a, fmt.Errorf("text %q", a.Text)
	}
	if s.kind.Dedupes {
		if a.Dedupe = r.Header.Get("Idempotency-Key"); len(a.Dedupe) < 16 {
			return a, fmt.Errorf("Idempotency-Key %q", a.Dedupe)
		}
	} else if r.Header["Idempotency-Key"] != nil {
		return a, errors.New("an Idempotency-Key, which makes net/http repeat requests")
	}
	return a, nil
}

func (s *protocol) verifyForm(r *http.Request, body []byte) (a channeltest.Accepted, err error) {
	want := http.MethodPost
	if s.kind.Method != "" {
		want = s.kind.Method
	}
	query := string(body)
	if want == http.MethodGet {
		query = r.URL.RawQuery
	} else if r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
		return a, fmt.Errorf("Content-Type %q", r.Header.Get("Content-Type"))
	}
	form, err := url.ParseQuery(query)
	if user, pass, ok := r.BasicAuth(); !ok || user != account || pass != password || r.Method != want || err != nil || form.Get("From") != sender {
		return a, fmt.Errorf("%s by %q with the form %v (%w)", r.Method, user, form, err)
	}
	if to := form.Get("To"); len(to) > 1 {
		a.To = to[1:] // less the plus
	}
	a.Text, a.Body = form.Get("Body"), []byte(query)
	return a, nil
}

func (s *protocol) verifyJSON(r *http.Request, body []byte) (a channeltest.Accepted, err error) {
	seconds, err := strconv.ParseInt(r.Header.Get("X-Timestamp"), 10, 64)
	if err != nil || time.Since(time.Unix(seconds, 0)).Abs() > time.Minute {
		return a, fmt.Errorf("X-Timestamp %q", r.Header.Get("X-Timestamp"))
	}
	mac := hmac.New(sha256.New, []byte(signing))
	fmt.Fprintf(mac, "%d.%s", seconds, body)
	if r.Header.Get("X-Signature") != "sha256="+hex.EncodeToString(mac.Sum(nil)) {
		return a, errors.New("the signature is another")
	}
	if r.Method != http.MethodPost || r.Header.Get("Authorization") != apiKey || r.Header.Get("Content-Type") != "application/json" {
		return a, fmt.Errorf("%s with the header %v", r.Method, r.Header)
	}
	var m struct {
		From     string
		Messages []struct{ To, Text string }
	}
	if err := json.Unmarshal(body, &m); err != nil || len(m.Messages) != 1 || m.From != sender {
		return a, fmt.Errorf("body %s (%w)", body, err)
	}
	a.To, a.Text, a.Body = m.Messages[0].To, m.Messages[0].Text, body
	return a, nil
}

// Answer answers as such gateways do.
func (s *protocol) Answer(w http.ResponseWriter, r *http.Request, b channeltest.Behaviour, words string) {
	w.Header().Set("Content-Type", "application/json")
	type answer struct {
		status int
		code   string
	}
	kinds := map[channeltest.Behaviour]answer{
		channeltest.Accept: {200, "0"}, channeltest.Gone: {200, "6"}, channeltest.Throttle: {200, "1"},
		channeltest.Refuse: {200, "3"}, channeltest.Unavailable: {503, ""}, channeltest.Echo: {200, "4"},
	}
	if s.kind.Form {
		kinds = map[channeltest.Behaviour]answer{
			channeltest.Accept: {201, ""}, channeltest.Gone: {400, "21614"}, channeltest.Throttle: {429, "20429"},
			channeltest.Refuse: {400, "21617"}, channeltest.Unavailable: {503, ""}, channeltest.Echo: {400, "21617"},
		}
	}
	k := kinds[b]
	w.WriteHeader(k.status)
	id := "SM" + rand.Text()
	if s.kind.Form {
		code, _ := strconv.Atoi(k.code)
		json.NewEncoder(w).Encode(map[string]any{"sid": id, "code": code, "message": words})
		return
	}
	json.NewEncoder(w).Encode(map[string]any{"messages": []map[string]string{{"id": id, "status": k.code, "error-text": words}}})
}
