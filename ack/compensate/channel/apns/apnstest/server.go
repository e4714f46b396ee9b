// Package apnstest is Apple's push service on the loopback interface: HTTP/2
// over TLS, with its checks of the provider token and of every header.
package apnstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"newswire/ack/compensate/channel"
	"newswire/ack/compensate/channel/apns"
	"newswire/ack/compensate/channel/channeltest"
	"newswire/ack/compensate/channel/wire"
)

const (
	keyID  = "ABC123DEFG"
	teamID = "DEF123GHIJ"
	topic  = "com.example.news"
)

// Server is the push service.
type Server struct {
	*channeltest.Server
	config apns.Config      // fixed
	public *ecdsa.PublicKey // fixed

	mu      sync.Mutex // guards the rest
	now     func() time.Time
	expire  bool            // the next request's token counts as expired
	tokens  map[string]bool // seen
	foreign map[string]bool // device tokens of another environment
}

// Start runs the service, and makes a signing key, until the test ends.
func Start(t testing.TB) *Server {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "AuthKey_"+keyID+".p8")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &Server{public: &key.PublicKey, now: time.Now, tokens: make(map[string]bool), foreign: make(map[string]bool)}
	s.Server = channeltest.Start(t, (*protocol)(s), true)
	s.config = apns.Config{KeyFile: file, KeyID: keyID, TeamID: teamID, Topic: topic, URL: s.URL(),
		HTTP: wire.Config{Timeout: 10 * time.Second, CAFile: s.CAFile()}}
	return s
}

// Config is that of a provider of this service.
func (s *Server) Config() apns.Config { return s.config }

// Register is a new device.
func (s *Server) Register(reader string) channel.Device {
	b := make([]byte, 32)
	rand.Read(b)
	return channel.Device{ID: fmt.Sprintf("d-%x", b[:4]), Reader: reader, Address: fmt.Sprintf("%x", b)}
}

// Foreign refuses a device's token as one of another environment or app.
func (s *Server) Foreign(d channel.Device) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.foreign[d.Address] = true
}

// Clock is what the service takes for the time.
func (s *Server) Clock(now func() time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = now
}

// Expire refuses the next request's token as expired.
func (s *Server) Expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire = true
}

// Tokens is how many different provider tokens were used.
func (s *Server) Tokens() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.tokens)
}

// protocol is the server's side of Apple's protocol.
type protocol Server

var (
	path = regexp.MustCompile(`^/3/device/([0-9a-f]{64})$`)
	uuid = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
)

// Verify checks one request.
func (s *protocol) Verify(r *http.Request, body []byte) (channeltest.Accepted, error) {
	device := path.FindStringSubmatch(r.URL.Path)
	h := r.Header
	expiration, err := strconv.ParseInt(h.Get("apns-expiration"), 10, 64)
	switch {
	case r.Method != http.MethodPost || device == nil:
		return channeltest.Accepted{}, errors.New("BadPath")
	case h.Get("apns-topic") != topic:
		return channeltest.Accepted{}, fmt.Errorf("apns-topic %q", h.Get("apns-topic"))
	case h.Get("apns-push-type") != "alert":
		return channeltest.Accepted{}, fmt.Errorf("apns-push-type %q", h.Get("apns-push-type"))
	case h.Get("apns-priority") != "10" && h.Get("apns-priority") != "5":
		return channeltest.Accepted{}, fmt.Errorf("apns-priority %q", h.Get("apns-priority"))
	case err != nil || expiration < 0:
		return channeltest.Accepted{}, fmt.Errorf("apns-expiration %q", h.Get("apns-expiration"))
	case !uuid.MatchString(h.Get("apns-id")):
		return channeltest.Accepted{}, fmt.Errorf("apns-id %q", h.Get("apns-id"))
	case len(h.Get("apns-collapse-id")) > 64:
		return channeltest.Accepted{}, errors.New("apns-collapse-id is too long")
	case len(body) > 4096:
		return channeltest.Accepted{}, fmt.Errorf("a payload of %d bytes", len(body))
	}
	var m struct {
		APS struct {
			Alert struct{ Title, Body string }
		}
	}
	if err := json.Unmarshal(body, &m); err != nil || m.APS.Alert.Title+m.APS.Alert.Body == "" {
		return channeltest.Accepted{}, fmt.Errorf("payload without an alert (%w)", err)
	}
	a := channeltest.Accepted{To: device[1], Dedupe: h.Get("apns-collapse-id"), Text: m.APS.Alert.Title + "\n" + m.APS.Alert.Body, Body: body}
	if err := s.verifyToken(strings.TrimPrefix(h.Get("authorization"), "bearer ")); err != nil {
		return a, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.foreign[device[1]] {
		return a, &channeltest.Refusal{Status: http.StatusBadRequest, Body: `{"reason":"BadDeviceToken"}`}
	}
	return a, nil
}

// verifyToken is Apple's check of the provider token.
func (s *protocol) verifyToken(text string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	token, err := jwt.Parse(text, func(*jwt.Token) (any, error) { return s.public, nil }, jwt.WithValidMethods([]string{"ES256"}))
	if err != nil {
		return fmt.Errorf("InvalidProviderToken: %w", err)
	}
	iss, _ := token.Claims.GetIssuer()
	iat, err := token.Claims.GetIssuedAt()
	if err != nil || iat == nil || iss != teamID || token.Header["kid"] != keyID {
		return fmt.Errorf("InvalidProviderToken: header %v, claims %v", token.Header, token.Claims)
	}
	s.tokens[text] = true
	age := s.now().Sub(iat.Time)
	if age < -time.Minute {
		return errors.New("InvalidProviderToken: issued in the future")
	}
	if s.expire || age > time.Hour {
		s.expire = false
		return &channeltest.Refusal{Status: http.StatusForbidden, Body: `{"reason":"ExpiredProviderToken"}`}
	}
	return nil
}

// Answer answers as Apple does.
func (s *protocol) Answer(w http.ResponseWriter, r *http.Request, b channeltest.Behaviour, words string) {
	w.Header().Set("apns-id", r.Header.Get("apns-id"))
	switch b {
	case channeltest.Accept:
	case channeltest.Gone:
		refuse(w, http.StatusGone, "Unregistered")
	case channeltest.Throttle:
		refuse(w, http.StatusTooManyRequests, "TooManyRequests")
	case channeltest.Refuse:
		refuse(w, http.StatusRequestEntityTooLarge, "PayloadTooLarge")
	case channeltest.Unavailable:
		refuse(w, http.StatusServiceUnavailable, "ServiceUnavailable")
	default:
		refuse(w, http.StatusBadRequest, words)
	}
}

func refuse(w http.ResponseWriter, status int, reason string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{"reason": reason, "timestamp": time.Now().UnixMilli()})
}
