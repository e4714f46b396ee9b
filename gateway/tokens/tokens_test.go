package tokens

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"newswire/fanout"
	"newswire/gateway/gatewaytest"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	secret = []byte("a secret of the tests that is long enough for HS256")
	quiet  = slog.New(slog.DiscardHandler)
)

// The kind of key fixes the algorithm: no other one is accepted, and the public
// key is never taken for a secret.
func TestKeyFixesTheAlgorithm(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edPublic, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		method jwt.SigningMethod
		key    any
		public crypto.PublicKey
	}{
		{jwt.SigningMethodRS256, rsaKey, &rsaKey.PublicKey},
		{jwt.SigningMethodES256, ecKey, &ecKey.PublicKey},
		{jwt.SigningMethodEdDSA, edKey, edPublic},
	} {
		alg := c.method.Alg()
		v, err := New(Config{PublicKeys: []crypto.PublicKey{c.public}}, quiet)
		if err != nil {
			t.Fatal(err)
		}
		if who, err := v.Verify(t.Context(), gatewaytest.Sign(t, c.method, c.key, gatewaytest.Good(nil))); err != nil || who.Reader != "u1" {
			t.Errorf("%s: good token gives %v, %v", alg, who, err)
		}
		der, err := x509.MarshalPKIXPublicKey(c.public)
		if err != nil {
			t.Fatal(err)
		}
		swaps := map[string]string{
			"HS256 with the DER": gatewaytest.Sign(t, jwt.SigningMethodHS256, der, gatewaytest.Good(nil)),
			"HS256 with the PEM": gatewaytest.Sign(t, jwt.SigningMethodHS256, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), gatewaytest.Good(nil)),
			"none":               gatewaytest.Sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, gatewaytest.Good(nil)),
		}
		if alg == "RS256" {
			swaps["RS512"] = gatewaytest.Sign(t, jwt.SigningMethodRS512, rsaKey, gatewaytest.Good(nil))
			swaps["PS256"] = gatewaytest.Sign(t, jwt.SigningMethodPS256, rsaKey, gatewaytest.Good(nil))
		}
		for name, token := range swaps {
			if who, err := v.Verify(t.Context(), token); err == nil {
				t.Errorf("%s: a token signed %s is taken for %s", alg, name, who.Reader)
			}
		}
	}
}

func TestAuthMustBeConfigured(t *testing.T) {
	t.Parallel()
	if _, err := New(Config{}, quiet); err == nil {
		t.Error("a gateway without a key is taken")
	}
	if _, err := New(Config{PublicKeys: []crypto.PublicKey{"a text"}}, quiet); err == nil {
		t.Error("a key of no kind is taken")
	}
}

// A token that is taken was signed with the secret, names a reader and has not
// run out.
func FuzzVerify(f *testing.F) {
	v, err := New(Config{Secret: secret, Issuer: "cms", Audience: "newswire"}, quiet)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(gatewaytest.Sign(f, jwt.SigningMethodHS256, secret, gatewaytest.Good(nil)))
	f.Add(gatewaytest.Sign(f, jwt.SigningMethodHS256, secret, gatewaytest.Good(jwt.MapClaims{"tags": []string{"a", "b:*"}})))
	for _, token := range gatewaytest.BadTokens(f, secret) {
		f.Add(token)
	}
	f.Fuzz(func(t *testing.T, token string) {
		who, err := v.Verify(t.Context(), token)
		if err != nil {
			if strings.Contains(err.Error(), "\n") || len(token) > 20 && strings.Contains(err.Error(), token) {
				t.Errorf("the refusal tells too much: %q", err)
			}
			return
		}
		signed, signature, _ := cutLast(token, ".")
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(signed))
		if got, err := base64.RawURLEncoding.DecodeString(signature); err != nil || !hmac.Equal(got, mac.Sum(nil)) {
			t.Errorf("token %q is taken and was not signed with the secret", token)
		}
		if err := CheckReader(who.Reader); err != nil || !who.Expires.After(time.Now().Add(-time.Second)) {
			t.Errorf("token %q makes reader %q until %s (%v)", token, who.Reader, who.Expires, err)
		}
	})
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// What a token says besides its reader.
func TestWhatAGoodTokenSays(t *testing.T) {
	v, err := New(Config{Secret: secret, Leeway: time.Minute, MaxTTL: time.Hour}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().Truncate(time.Second)
	verify := func(claims jwt.MapClaims) (Identity, error) {
		claims["sub"] = "u1"
		return v.Verify(t.Context(), gatewaytest.Sign(t, jwt.SigningMethodHS256, secret, claims))
	}
	who, err := verify(jwt.MapClaims{
		"jti": "t-1", "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "nbf": now.Add(50 * time.Second).Unix(),
		"newswire_role": "backend", "tags": []string{"b", "a", "b"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if who.ID != "t-1" || !who.Issued.Equal(now) || !who.Expires.Equal(now.Add(time.Hour)) || who.Role != RoleBackend || !slices.Equal(who.Permit, fanout.Permit{"a", "b"}) {
		t.Errorf("the token says %+v", who)
	}
	for name, claims := range map[string]jwt.MapClaims{
		"valid only behind the leeway": {"nbf": now.Add(2 * time.Minute).Unix(), "exp": now.Add(time.Hour).Unix()},
		"issued behind the leeway":     {"iat": now.Add(2 * time.Minute).Unix(), "exp": now.Add(time.Hour).Unix()},
		"longer than may be":           {"iat": now.Unix(), "exp": now.Add(time.Hour + time.Second).Unix()},
		"longer than may be, no iat":   {"exp": now.Add(2 * time.Hour).Unix()},
		"expired within the leeway":    {"exp": now.Add(-time.Second).Unix()},
	} {
		if _, err := verify(claims); err == nil {
			t.Errorf("a token that is %s is taken", name)
		}
	}
	ahead := now.Add(50 * time.Second) // by the issuer's clock
	if _, err := verify(jwt.MapClaims{"iat": ahead.Unix(), "exp": ahead.Add(time.Hour).Unix()}); err != nil {
		t.Errorf("a token issued within the leeway: %v", err)
	}
	if who, err := verify(jwt.MapClaims{"exp": now.Add(time.Minute).Unix(), "tags": []string{"a", "*"}}); err != nil || who.Permit != nil || who.Role != "" || who.ID != "" || !who.Issued.IsZero() {
		t.Errorf("a token with little says %+v, %v", who, err)
	}
	unbounded, err := New(Config{Secret: secret}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	far := gatewaytest.Sign(t, jwt.SigningMethodHS256, secret, jwt.MapClaims{"sub": "u1", "exp": 1e18})
	if who, err := unbounded.Verify(t.Context(), far); err == nil && who.Expires.Year() > 9999 {
		t.Errorf("a token until the end of time expires at %s", who.Expires)
	}
}
