// Package webpushtest is a push service on the loopback interface. It holds the
// browsers' keys, too, decrypts what it gets, and takes only what Chrome's and
// Firefox's services would take: RFC 8030, 8188, 8291 and 8292, read from their
// receiving side and without the sender's code.
package webpushtest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	"newswire/ack/compensate/channel/channeltest"
	"newswire/ack/compensate/channel/webpush"
	"newswire/ack/compensate/channel/wire"
)

const subject = "mailto:desk@news.example.com"

// Server is the push service.
type Server struct {
	*channeltest.Server
	t      testing.TB
	config webpush.Config // fixed
	public []byte         // fixed; the VAPID key that all subscriptions are bound to

	mu       sync.Mutex // guards browsers
	browsers map[string]browser
}

// browser is one subscription.
type browser struct {
	key  *ecdh.PrivateKey
	auth []byte
}

// Start runs a push service, and makes a VAPID key, until the test ends.
func Start(t testing.TB) *Server {
	t.Helper()
	pem, public, err := webpush.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "vapid.pem")
	if err := os.WriteFile(file, pem, 0o600); err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, browsers: make(map[string]browser)}
	if s.public, err = base64.RawURLEncoding.DecodeString(public); err != nil {
		t.Fatal(err)
	}
	s.Server = channeltest.Start(t, (*protocol)(s), false)
	s.config = webpush.Config{KeyFile: file, Subject: subject, AllowPrivate: true,
		HTTP: wire.Config{Timeout: 10 * time.Second, CAFile: s.CAFile()}}
	return s
}

// Config is that of a sender to this service.
func (s *Server) Config() webpush.Config { return s.config }

// Subscribe is a new browser's subscription.
func (s *Server) Subscribe(reader string) channel.Device {
	s.t.Helper()
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	auth := make([]byte, 16)
	rand.Read(auth)
	s.mu.Lock()
	defer s.mu.Unlock()
	path := fmt.Sprintf("/push/%d-%s", len(s.browsers), rand.Text())
	s.browsers[path] = browser{key, auth}
	return channel.Device{
		ID: path, Reader: reader, Address: s.URL() + path,
		Keys: map[string]string{
			"p256dh": base64.RawURLEncoding.EncodeToString(key.PublicKey().Bytes()),
			"auth":   base64.RawURLEncoding.EncodeToString(auth),
		},
	}
}

// protocol is the server's side of the push protocol.
type protocol Server

var topic = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)

// Verify checks one push message and decrypts it.
func (s *protocol) Verify(r *http.Request, body []byte) (channeltest.Accepted, error) {
	s.mu.Lock()
	b, ok := s.browsers[r.URL.Path]
	s.mu.Unlock()
	switch ttl, err := strconv.Atoi(r.Header.Get("TTL")); {
	case r.Method != http.MethodPost || !ok:
		return channeltest.Accepted{}, errors.New("no such subscription")
	case err != nil || ttl < 0 || ttl > 28*24*60*60:
		return channeltest.Accepted{}, fmt.Errorf("header TTL %q", r.Header.Get("TTL"))
	case r.Header.Get("Content-Encoding") != "aes128gcm":
		return channeltest.Accepted{}, fmt.Errorf("header Content-Encoding %q", r.Header.Get("Content-Encoding"))
	case !strings.Contains(" very-low low normal high ", " "+r.Header.Get("Urgency")+" "):
		return channeltest.Accepted{}, fmt.Errorf("header Urgency %q", r.Header.Get("Urgency"))
	case r.Header["Topic"] != nil && !topic.MatchString(r.Header.Get("Topic")):
		return channeltest.Accepted{}, fmt.Errorf("header Topic %q", r.Header.Get("Topic"))
	}
	if err := s.verifySender(r); err != nil {
		return channeltest.Accepted{}, err
	}
	plain, err := b.decrypt(body)
	if err != nil {
		return channeltest.Accepted{}, err
	}
	var m struct{ Title, Body, URL, Tag, ID string }
	if err := json.Unmarshal(plain, &m); err != nil {
		return channeltest.Accepted{}, fmt.Errorf("the payload: %w", err)
	}
	// The browser shows one notification under a tag.
	return channeltest.Accepted{To: r.URL.Path, Dedupe: m.Tag, Text: m.Title + "\n" + m.Body, Body: plain}, nil
}

// verifySender is RFC 8292.
func (s *protocol) verifySender(r *http.Request) error {
	rest, ok := strings.CutPrefix(r.Header.Get("Authorization"), "vapid ")
	if !ok {
		return errors.New("header Authorization is not of the scheme vapid")
	}
	var t, k string
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "t":
			t = value
		case "k":
			k = value
		}
	}
	point, err := base64.RawURLEncoding.DecodeString(k)
	if err != nil || string(point) != string(s.public) {
		return errors.New("k is not the key that the subscription is bound to")
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return err
	}
	token, err := jwt.Parse(t, func(*jwt.Token) (any, error) { return key, nil },
		jwt.WithValidMethods([]string{"ES256"}), jwt.WithExpirationRequired(), jwt.WithAudience("https://"+r.Host))
	if err != nil {
		return fmt.Errorf("the VAPID token: %w", err)
	}
	exp, _ := token.Claims.GetExpirationTime()
	if sub, _ := token.Claims.GetSubject(); sub != subject || time.Until(exp.Time) > 24*time.Hour {
		return fmt.Errorf("the VAPID token has sub %q and exp %s", sub, exp)
	}
	return nil
}

// decrypt is the browser's side of RFC 8291.
func (b browser) decrypt(body []byte) ([]byte, error) {
	if len(body) < 86 || len(body) > 4096 || body[20] != 65 {
		return nil, fmt.Errorf("a message of %d bytes, or without the sender's key", len(body))
	}
	salt, size, point, sealed := body[:16], binary.BigEndian.Uint32(body[16:20]), body[21:86], body[86:]
	if int(size) < len(sealed) {
		return nil, errors.New("more than one record")
	}
	sender, err := ecdh.P256().NewPublicKey(point)
	if err != nil {
		return nil, err
	}
	shared, err := b.key.ECDH(sender)
	if err != nil {
		return nil, err
	}
	expand := func(secret, salt []byte, info string, n int) []byte {
		prk, err := hkdf.Extract(sha256.New, secret, salt)
		if err != nil {
			panic(err)
		}
		out, err := hkdf.Expand(sha256.New, prk, info, n)
		if err != nil {
			panic(err)
		}
		return out
	}
	secret := expand(shared, b.auth, "WebPush: info\x00"+string(b.key.PublicKey().Bytes())+string(point), 32)
	block, err := aes.NewCipher(expand(secret, salt, "Content-Encoding: aes128gcm\x00", 16))
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	padded, err := gcm.Open(nil, expand(secret, salt, "Content-Encoding: nonce\x00", 12), sealed, nil)
	if err != nil {
		return nil, fmt.Errorf("decrypt: %w", err)
	}
	plain := strings.TrimRight(string(padded), "\x00")
	if !strings.HasSuffix(plain, "\x02") {
		return nil, errors.New("the last record's delimiter is not 2")
	}
	return []byte(plain[:len(plain)-1]), nil
}

// Answer answers as push services do.
func (s *protocol) Answer(w http.ResponseWriter, r *http.Request, b channeltest.Behaviour, words string) {
	status := map[channeltest.Behaviour]int{
		channeltest.Accept: http.StatusCreated, channeltest.Gone: http.StatusGone, channeltest.Throttle: http.StatusTooManyRequests,
		channeltest.Refuse: http.StatusRequestEntityTooLarge, channeltest.Unavailable: http.StatusServiceUnavailable,
		channeltest.Echo: http.StatusBadRequest,
	}[b]
	if b == channeltest.Accept {
		w.Header().Set("Location", "https://"+r.Host+"/message/"+rand.Text())
		words = ""
	}
	w.WriteHeader(status)
	io.WriteString(w, words)
}
