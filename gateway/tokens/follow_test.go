package tokens

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"newswire/gateway/gatewaytest"

	"github.com/golang-jwt/jwt/v5"
)

// issuer signs with one key that a JWKS names.
type issuer struct {
	kid    string
	method jwt.SigningMethod
	key    crypto.Signer
}

func newIssuer(t testing.TB, kid, alg string) issuer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch alg {
	case "RS256":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case "ES256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	default:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	return issuer{kid, jwt.GetSigningMethod(alg), key}
}

// token signs one for reader u1, and names its key unless the issuer has no name.
func (i issuer) token(t testing.TB) string {
	t.Helper()
	token := jwt.NewWithClaims(i.method, gatewaytest.Good(nil))
	if i.kid != "" {
		token.Header["kid"] = i.kid
	}
	text, err := token.SignedString(i.key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (i issuer) jwk(more map[string]any) map[string]any {
	b64 := base64.RawURLEncoding.EncodeToString
	k := map[string]any{}
	if i.kid != "" {
		k["kid"] = i.kid
	}
	switch public := i.key.Public().(type) {
	case *rsa.PublicKey:
		k["kty"], k["n"], k["e"] = "RSA", b64(public.N.Bytes()), b64(big.NewInt(int64(public.E)).Bytes())
	case *ecdsa.PublicKey:
		raw, _ := public.Bytes()
		k["kty"], k["crv"], k["x"], k["y"] = "EC", "P-256", b64(raw[1:33]), b64(raw[33:])
	case ed25519.PublicKey:
		k["kty"], k["crv"], k["x"] = "OKP", "Ed25519", b64(public)
	}
	for name, value := range more {
		k[name] = value
	}
	return k
}

func jwks(t testing.TB, keys ...map[string]any) []byte {
	t.Helper()
	text, err := json.Marshal(map[string]any{"keys": append([]map[string]any{}, keys...)})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// provider stands in for the identity provider's server.
type provider struct {
	asked atomic.Int32

	mu   sync.Mutex // guards the rest
	text []byte     // nil: it is away
}

func (p *provider) RoundTrip(*http.Request) (*http.Response, error) {
	p.asked.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.text == nil {
		return nil, errors.New("connection refused")
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(p.text))}, nil
}

func (p *provider) gives(text []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text = text
}

type memory struct{ text []byte }

func (m *memory) Load() ([]byte, error)                     { return m.text, nil }
func (m *memory) Save(_ context.Context, text []byte) error { m.text = text; return nil }

// remoteVerifier follows a provider until the function is called.
func remoteVerifier(t testing.TB, p *provider, c Cache) (*Verifier, func()) {
	t.Helper()
	v, err := New(Config{JWKSURL: "https://id.example/jwks", Cache: c}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	v.remote.client.Transport = p
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = v.Run(ctx) }()
	return v, func() { cancel(); <-done }
}

func takes(t testing.TB, v *Verifier, i issuer) {
	t.Helper()
	if who, err := v.Verify(t.Context(), i.token(t)); err != nil || who.Reader != "u1" {
		t.Errorf("a token of key %q is refused: %v", i.kid, err)
	}
}

func refuses(t testing.TB, v *Verifier, i issuer, why error) {
	t.Helper()
	if _, err := v.Verify(t.Context(), i.token(t)); !errors.Is(err, why) {
		t.Errorf("a token of key %q gives %v, want %v", i.kid, err, why)
	}
}

func TestKeysOfAJWKSAreRotated(t *testing.T) {
	for _, alg := range []string{"RS256", "ES256", "EdDSA"} {
		old, next, never := newIssuer(t, "old", alg), newIssuer(t, "next", alg), newIssuer(t, "never", alg)
		synctest.Test(t, func(t *testing.T) {
			p := &provider{text: jwks(t, old.jwk(nil))}
			v, end := remoteVerifier(t, p, nil)
			defer end()
			synctest.Wait()
			takes(t, v, old)
			refuses(t, v, never, ErrInvalid)
			asked := p.asked.Load()
			for range 1000 { // who makes kids up does not make the provider be asked
				refuses(t, v, never, ErrInvalid)
			}
			if n := p.asked.Load(); n != asked {
				t.Errorf("%s: the provider was asked %d times because of unknown keys", alg, n-asked)
			}
			p.gives(jwks(t, old.jwk(nil), next.jwk(nil)))
			time.Sleep(unknownEvery)
			takes(t, v, next) // at once, by being asked for
			takes(t, v, old)
			p.gives(jwks(t, next.jwk(nil)))
			time.Sleep(refreshEvery + lookEvery)
			takes(t, v, next)
			refuses(t, v, old, ErrInvalid) // it was taken away
		})
	}
}

func TestKeysOutliveTheirProvider(t *testing.T) {
	known, later := newIssuer(t, "known", "EdDSA"), newIssuer(t, "later", "ES256")
	synctest.Test(t, func(t *testing.T) {
		p, cache := &provider{text: jwks(t, known.jwk(nil))}, new(memory)
		v, end := remoteVerifier(t, p, cache)
		synctest.Wait()
		takes(t, v, known)
		p.gives(nil)
		time.Sleep(24 * time.Hour)
		takes(t, v, known)
		refuses(t, v, later, ErrUnavailable) // perhaps it is good: nobody can say
		for _, text := range []string{"", "<html>", `{"keys":[]}`, `{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}`, strings.Repeat(" ", maxJWKS+1)} {
			p.gives([]byte(text))
			time.Sleep(time.Hour)
			takes(t, v, known)
		}
		end()

		p.gives(nil) // a restart meanwhile
		v, end = remoteVerifier(t, p, cache)
		synctest.Wait()
		takes(t, v, known)
		if err := v.Ready(); err != nil {
			t.Errorf("with keys that were kept it is not ready: %v", err)
		}
		end()

		v, end = remoteVerifier(t, p, new(memory))
		defer end()
		synctest.Wait()
		refuses(t, v, known, ErrUnavailable)
		if err := v.Ready(); err == nil || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("without any key readiness says %v", err)
		}
		p.gives(jwks(t, known.jwk(nil)))
		time.Sleep(failedEvery + lookEvery)
		takes(t, v, known)
		if err := v.Ready(); err != nil {
			t.Error(err)
		}
	})
}

// Only keys that are meant for signatures of our algorithms count, whatever
// stands beside them.
func TestKeysOfAJWKSAreChosen(t *testing.T) {
	a, b, nameless := newIssuer(t, "a", "RS256"), newIssuer(t, "b", "EdDSA"), newIssuer(t, "", "ES256")
	weak := map[string]any{"kty": "RSA", "kid": "weak", "n": base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{0xff}, 64)), "e": "AQAB"}
	oct := map[string]any{"kty": "oct", "kid": "shared", "k": base64.RawURLEncoding.EncodeToString(secret)}
	off := map[string]any{"kty": "EC", "crv": "P-256", "kid": "off", "x": strings.Repeat("A", 43), "y": strings.Repeat("A", 43)}
	dir := t.TempDir()
	path := filepath.Join(dir, "jwks.json")
	verifier := func(keys ...map[string]any) *Verifier {
		t.Helper()
		if err := os.WriteFile(path, jwks(t, keys...), 0o600); err != nil {
			t.Fatal(err)
		}
		v, err := New(Config{JWKSFile: path}, quiet)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	v := verifier(weak, oct, off, a.jwk(map[string]any{"use": "sig", "alg": "RS256"}), b.jwk(map[string]any{"key_ops": []string{"verify"}}), nameless.jwk(nil))
	for _, i := range []issuer{a, b, nameless} {
		takes(t, v, i)
		i.kid = ""
		takes(t, v, i) // a token need not name its key
	}
	shared := jwt.NewWithClaims(jwt.SigningMethodHS256, gatewaytest.Good(nil))
	shared.Header["kid"] = "shared"
	text, err := shared.SignedString(secret)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(t.Context(), text); err == nil {
		t.Error("a shared secret of a JWKS is taken")
	}
	swapped := a // names one key and was signed by another
	swapped.kid = "b"
	refuses(t, v, swapped, ErrInvalid)
	for name, more := range map[string]map[string]any{
		"for encryption":       {"use": "enc"},
		"for wrapping":         {"key_ops": []string{"wrapKey"}},
		"of another algorithm": {"alg": "PS256"},
	} {
		refuses(t, verifier(b.jwk(nil), a.jwk(more)), a, ErrInvalid)
		if err := CheckJWKS(jwks(t, a.jwk(more))); err == nil {
			t.Errorf("a set of nothing but a key %s is taken", name)
		}
	}
}

// A file is followed, however it is replaced; what cannot be used changes
// nothing and is told.
func TestKeyFilesAreFollowed(t *testing.T) {
	first, second := newIssuer(t, "", "ES256"), newIssuer(t, "", "EdDSA")
	files := map[string][]byte{}
	for name, i := range map[string]issuer{"first": first, "second": second} {
		files[name] = jwks(t, i.jwk(nil))
	}
	for name, replace := range map[string]func(path string, text []byte) error{
		"written over": func(path string, text []byte) error { return os.WriteFile(path, text, 0o600) },
		"renamed": func(path string, text []byte) error {
			return errors.Join(os.WriteFile(path+".new", text, 0o600), os.Rename(path+".new", path))
		},
		"as Kubernetes does": func(path string, text []byte) error { // ..data is a link to the directory of the moment
			dir := filepath.Dir(path)
			next, err := os.MkdirTemp(dir, "..version")
			return errors.Join(err, os.WriteFile(filepath.Join(next, "keys"), text, 0o600), os.Symlink(next, filepath.Join(dir, "..next")),
				os.Rename(filepath.Join(dir, "..next"), filepath.Join(dir, "..data")), linkOnce(path))
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "keys")
			replaced := func(text []byte) {
				t.Helper()
				if err := replace(path, text); err != nil {
					t.Fatal(err)
				}
			}
			replaced(files["first"])
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				v, err := New(Config{JWKSFile: path}, slog.New(slog.NewTextHandler(&log, nil)))
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() { defer close(done); _ = v.Run(ctx) }()
				takes(t, v, first)
				time.Sleep(lookEvery / 2) // nobody looks while a file is being written
				replaced(files["second"])
				time.Sleep(2 * lookEvery)
				takes(t, v, second)
				refuses(t, v, first, ErrInvalid)
				replaced([]byte("half a fi"))
				time.Sleep(10 * lookEvery)
				takes(t, v, second)
				replaced(files["first"])
				time.Sleep(2 * lookEvery)
				takes(t, v, first)
				cancel()
				<-done
				if n := strings.Count(log.String(), "cannot be used"); n != 1 {
					t.Errorf("a file that cannot be used is told %d times:\n%s", n, &log)
				}
			})
		})
	}
}

// linkOnce makes path a link into ..data, as a mounted volume has it.
func linkOnce(path string) error {
	err := os.Symlink(filepath.Join("..data", filepath.Base(path)), path)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	return err
}

func TestAddressesThatAnybodyCanAnswerAreRefused(t *testing.T) {
	for address, good := range map[string]bool{
		"https://id.example/jwks": true, "http://127.0.0.1:80/x": true, "http://localhost/x": true, "http://[::1]:8/x": true,
		"http://id.example/jwks": false, "http://10.0.0.1/": false, "ftp://id.example/": false, "id.example": false, "": false,
		"https://user:secret@id.example/": false, "http://localhost.example/": false, "file:///etc/jwks": false,
	} {
		if err := CheckJWKSURL(address); (err == nil) != good {
			t.Errorf("%q: %v", address, err)
		}
	}
}

// Whatever a provider answers, no key is made that cannot check, and nothing
// that is a secret to it.
func FuzzParseJWKS(f *testing.F) {
	for _, alg := range []string{"RS256", "ES256", "EdDSA"} {
		f.Add(jwks(f, newIssuer(f, "a", alg).jwk(map[string]any{"use": "sig", "alg": alg}), newIssuer(f, "", alg).jwk(nil)))
	}
	for _, seed := range []string{``, `{}`, `{"keys":null}`, `{"keys":[{}]}`, `{"keys":[{"kty":"oct","k":"AAAA"}]}`, `{"keys":[{"kty":"RSA","n":"AA","e":"AA"}]}`, `[]`} {
		f.Add([]byte(seed))
	}
	token := newIssuer(f, "a", "EdDSA").token(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		ring, err := parseJWKS(text)
		if err != nil {
			return
		}
		for _, k := range ring.keys {
			if alg, err := algorithmOf(k.key); err != nil || alg != k.alg {
				t.Errorf("a key of %s is kept for %s (%v)", alg, k.alg, err)
			}
		}
		v, err := New(Config{Secret: secret}, quiet)
		if err != nil {
			t.Fatal(err)
		}
		v.keys.Store(ring)
		if who, err := v.Verify(t.Context(), token); err == nil {
			t.Errorf("a key of which nobody knows the private half has signed for %s", who.Reader)
		}
	})
}
