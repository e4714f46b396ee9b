// Package fcmtest is Firebase Cloud Messaging and Google's token endpoint on the
// loopback interface: it checks the signed assertion, the bearer, and every
// field of a message.
package fcmtest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"newswire/ack/compensate/channel"
	"newswire/ack/compensate/channel/channeltest"
	"newswire/ack/compensate/channel/fcm"
	"newswire/ack/compensate/channel/wire"
)

const (
	project = "news-example"
	email   = "sender@news-example.iam.gserviceaccount.com"
	keyID   = "0123456789abcdef"
)

// Server is both services.
type Server struct {
	*channeltest.Server
	config fcm.Config     // fixed
	public *rsa.PublicKey // fixed

	mu        sync.Mutex // guards the rest
	tokens    map[string]time.Time
	exchanges int
	oauth     *channeltest.Refusal // the next exchange's answer
	now       func() time.Time
}

// accountKey is made once: RSA takes its time.
var accountKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// Start runs the services, and makes a service account, until the test ends.
func Start(t testing.TB) *Server {
	t.Helper()
	key, err := accountKey()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{public: &key.PublicKey, tokens: make(map[string]time.Time), now: time.Now}
	s.Server = channeltest.Start(t, (*protocol)(s), false)
	credentials, err := json.Marshal(map[string]string{
		"type": "service_account", "project_id": project, "private_key_id": keyID, "client_email": email, "token_uri": s.URL() + "/token",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "account.json")
	if err := os.WriteFile(file, credentials, 0o600); err != nil {
		t.Fatal(err)
	}
	s.config = fcm.Config{CredentialsFile: file, URL: s.URL(), HTTP: wire.Config{Timeout: 10 * time.Second, CAFile: s.CAFile()}}
	return s
}

// Config is that of a sender.
func (s *Server) Config() fcm.Config { return s.config }

// Register is a new device.
func (s *Server) Register(reader string) channel.Device {
	token := "c" + rand.Text() + ":APA91b" + rand.Text() + "-" + rand.Text()
	return channel.Device{ID: "d-" + rand.Text(), Reader: reader, Address: token}
}

// Clock is what the services take for the time.
func (s *Server) Clock(now func() time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = now
}

// Revoke ends all access tokens.
func (s *Server) Revoke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.tokens)
}

// NextExchange is answered so.
func (s *Server) NextExchange(status int, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.oauth = &channeltest.Refusal{Status: status, Body: body}
}

// Exchanges is how many access tokens were given.
func (s *Server) Exchanges() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.exchanges
}

// protocol is the servers' side.
type protocol Server

// Verify checks one message, or answers one exchange.
func (s *protocol) Verify(r *http.Request, body []byte) (channeltest.Accepted, error) {
	if r.Method != http.MethodPost {
		return channeltest.Accepted{}, errors.New(r.Method)
	}
	switch r.URL.Path {
	case "/token":
		return channeltest.Accepted{}, s.exchange(r, body)
	case "/v1/projects/" + project + "/messages:send":
	default:
		return channeltest.Accepted{}, errors.New("no such path")
	}
	bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	s.mu.Lock()
	until, known := s.tokens[bearer]
	late := !s.now().Before(until)
	s.mu.Unlock()
	if !ok || bearer == "" {
		return channeltest.Accepted{}, errors.New("no bearer")
	}
	if !known || late {
		return channeltest.Accepted{}, &channeltest.Refusal{Status: http.StatusUnauthorized, Body: problem(401, "UNAUTHENTICATED", "", "the access token is none")}
	}
	return verifyMessage(r, body)
}

var ttl = regexp.MustCompile(`^\d{1,7}s$`)

func verifyMessage(r *http.Request, body []byte) (channeltest.Accepted, error) {
	var m struct {
		Message struct {
			Token        string
			Notification struct{ Title, Body string }
			Data         map[string]string
			Android      struct {
				CollapseKey  string `json:"collapse_key"`
				TTL          string
				Priority     string
				Notification struct{ Tag string }
			}
			APNS    struct{ Headers map[string]string }
			Webpush struct{ Headers map[string]string }
		}
	}
	d := json.NewDecoder(strings.NewReader(string(body)))
	d.DisallowUnknownFields() // as Google does
	if err := d.Decode(&m); err != nil {
		return channeltest.Accepted{}, err
	}
	a := m.Message.Android
	switch {
	case r.Header.Get("Content-Type") != "application/json":
		return channeltest.Accepted{}, fmt.Errorf("Content-Type %q", r.Header.Get("Content-Type"))
	case !ttl.MatchString(a.TTL):
		return channeltest.Accepted{}, fmt.Errorf("android.ttl %q", a.TTL)
	case a.Priority != "HIGH" && a.Priority != "NORMAL":
		return channeltest.Accepted{}, fmt.Errorf("android.priority %q", a.Priority)
	case a.CollapseKey != a.Notification.Tag || a.CollapseKey != m.Message.APNS.Headers["apns-collapse-id"] || a.CollapseKey != m.Message.Webpush.Headers["Topic"]:
		return channeltest.Accepted{}, errors.New("the platforms do not collapse alike")
	case m.Message.Token == "" || len(body)-len(m.Message.Token) > 4096:
		return channeltest.Accepted{}, fmt.Errorf("a message of %d bytes to %q", len(body), m.Message.Token)
	}
	n := m.Message.Notification
	return channeltest.Accepted{To: m.Message.Token, Dedupe: a.CollapseKey, Text: n.Title + "\n" + n.Body, Body: body}, nil
}

// exchange is the token endpoint: its answer is told as a refusal, because it is
// no message.
func (s *protocol) exchange(r *http.Request, body []byte) error {
	form, err := url.ParseQuery(string(body))
	if err != nil || r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
		return errors.New("the exchange is no form")
	}
	if g := form.Get("grant_type"); g != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
		return fmt.Errorf("grant_type %q", g)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := jwt.Parse(form.Get("assertion"), func(*jwt.Token) (any, error) { return s.public, nil },
		jwt.WithValidMethods([]string{"RS256"}), jwt.WithExpirationRequired(), jwt.WithIssuer(email),
		jwt.WithAudience("https://"+r.Host+"/token"), jwt.WithTimeFunc(s.now))
	if err != nil {
		return fmt.Errorf("the assertion: %w", err)
	}
	claims := t.Claims.(jwt.MapClaims)
	iat, _ := claims.GetIssuedAt()
	exp, _ := claims.GetExpirationTime()
	if t.Header["kid"] != keyID || claims["scope"] != "https://www.googleapis.com/auth/firebase.messaging" || iat == nil || exp.Sub(iat.Time) > time.Hour {
		return fmt.Errorf("the assertion has the header %v and the claims %v", t.Header, claims)
	}
	if s.oauth != nil {
		answer := s.oauth
		s.oauth = nil
		return answer
	}
	token := "ya29." + rand.Text()
	s.tokens[token] = s.now().Add(time.Hour)
	s.exchanges++
	return &channeltest.Refusal{Status: http.StatusOK, Body: fmt.Sprintf(`{"access_token":%q,"token_type":"Bearer","expires_in":3600}`, token)}
}

// Answer answers as FCM does.
func (s *protocol) Answer(w http.ResponseWriter, r *http.Request, b channeltest.Behaviour, words string) {
	w.Header().Set("Content-Type", "application/json")
	write := func(status int, body string) {
		w.WriteHeader(status)
		w.Write([]byte(body))
	}
	switch b {
	case channeltest.Accept:
		write(200, fmt.Sprintf(`{"name":"projects/%s/messages/0:%d"}`, project, time.Now().UnixMicro()))
	case channeltest.Gone:
		write(404, problem(404, "NOT_FOUND", "UNREGISTERED", "Requested entity was not found."))
	case channeltest.Throttle:
		write(429, problem(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", words))
	case channeltest.Refuse:
		write(403, problem(403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH", words))
	case channeltest.Unavailable:
		write(503, problem(503, "UNAVAILABLE", "UNAVAILABLE", words))
	default:
		write(400, problem(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", words))
	}
}

func problem(code int, status, fcmCode, words string) string {
	details := []map[string]string{}
	if fcmCode != "" {
		details = append(details, map[string]string{"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": fcmCode})
	}
	text, err := json.Marshal(map[string]any{"error": map[string]any{"code": code, "status": status, "message": words, "details": details}})
	if err != nil {
		panic(err)
	}
	return string(text)
}
