package webpush

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"newswire/ack/compensate/channel/wire"
)

const (
	tokenLife   = 12 * time.Hour // a push service takes at most 24 h
	tokenReuse  = time.Hour      // one signature serves so long
	mostOrigins = 256            // readers write endpoints: beyond so many, memory is not for origins
)

// vapid introduces the sender to push services.
type vapid struct {
	key     *ecdsa.PrivateKey // fixed
	public  string            // fixed; as subscriptions and headers have it
	subject string            // fixed
	now     func() time.Time  // fixed

	mu     sync.Mutex // guards tokens
	tokens map[string]token
}

// token is a signed one and from when on a new one is made.
type token struct {
	header string
	renew  time.Time
}

func newVAPID(key *ecdsa.PrivateKey, subject string, now func() time.Time) *vapid {
	return &vapid{key: key, public: publicText(key), subject: subject, now: now, tokens: make(map[string]token)}
}

// authorization is the header for a push service, which one signature serves
// for an hour.
func (v *vapid) authorization(endpoint *url.URL) (string, error) {
	origin, now := endpoint.Scheme+"://"+strings.TrimSuffix(strings.ToLower(endpoint.Host), ":443"), v.now()
	v.mu.Lock()
	t, ok := v.tokens[origin]
	v.mu.Unlock()
	if ok && now.Before(t.renew) && t.renew.Sub(now) <= tokenReuse {
		return t.header, nil
	}
	signed, err := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
		"aud": origin, "exp": now.Add(tokenLife).Unix(), "sub": v.subject,
	}).SignedString(v.key)
	if err != nil {
		return "", fmt.Errorf("sign the VAPID token: %w", err)
	}
	t = token{"vapid t=" + signed + ", k=" + v.public, now.Add(tokenReuse)}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.tokens) >= mostOrigins {
		clear(v.tokens)
	}
	v.tokens[origin] = t
	return t.header, nil
}

// publicText is the key as browsers take it for applicationServerKey.
func publicText(key *ecdsa.PrivateKey) string {
	point, err := key.PublicKey.Bytes()
	if err != nil {
		panic(err) // P-256, as parseKey has seen to
	}
	return base64.RawURLEncoding.EncodeToString(point)
}

func readKey(file string) (*ecdsa.PrivateKey, error) {
	text, err := wire.ReadSecret("key_file", file)
	if err != nil {
		return nil, err
	}
	key, err := parseKey(text)
	if err != nil {
		return nil, fmt.Errorf("read key_file %s: %w", file, err)
	}
	return key, nil
}

// KeyFile gives what pages subscribe with to hear from the key in a file, which
// is made where it is not there. One that is there is never written: every
// browser's subscription is bound to it.
func KeyFile(file string) (public string, err error) {
	pemText, public, err := GenerateKey()
	if err != nil {
		return "", err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		key, err := readKey(file)
		if err != nil {
			return "", err
		}
		return publicText(key), nil
	}
	if err != nil {
		return "", fmt.Errorf("make the key file: %w", err)
	}
	_, err = f.Write(pemText)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		_ = os.Remove(file) // half a key is none
		return "", fmt.Errorf("write the key file: %w", err)
	}
	return public, nil
}

// parseKey reads PEM, or the scalar in base64url as most tools print it.
func parseKey(text []byte) (*ecdsa.PrivateKey, error) {
	if scalar, err := decode64(string(text)); err == nil && len(scalar) == 32 {
		key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar)
		if err != nil {
			return nil, errors.New("it is no private key on P-256")
		}
		return key, nil
	}
	return wire.ParseP256(text)
}

// GenerateKey makes a VAPID key: PEM for the key file, and what pages subscribe
// with.
func GenerateKey() (pemText []byte, public string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, "", fmt.Errorf("generate the VAPID key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, "", fmt.Errorf("encode the VAPID key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), publicText(key), nil
}
