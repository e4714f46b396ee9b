package gateway

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"newswire/gateway/gatewaytest"

	"github.com/golang-jwt/jwt/v5"
)

// sign makes a token with any method and claims.
func sign(t testing.TB, method jwt.SigningMethod, key any, claims jwt.MapClaims) string {
	t.Helper()
	token, err := jwt.NewWithClaims(method, claims).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// good is what an acceptable token says.
func good(more jwt.MapClaims) jwt.MapClaims {
	claims := jwt.MapClaims{"sub": "u1", "exp": time.Now().Add(time.Hour).Unix(), "iss": "cms", "aud": "newswire"}
	for k, v := range more {
		if claims[k] = v; v == nil {
			delete(claims, k)
		}
	}
	return claims
}

// badTokens are refused by a gateway that checks HS256, issuer and audience.
func badTokens(t testing.TB) map[string]string {
	hs := func(more jwt.MapClaims) string { return sign(t, jwt.SigningMethodHS256, secret, good(more)) }
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	head := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`))
	return map[string]string{
		"missing":             "",
		"no token at all":     "certainly not",
		"two parts":           head + "." + head,
		"expired":             hs(jwt.MapClaims{"exp": time.Now().Add(-time.Second).Unix()}),
		"without exp":         hs(jwt.MapClaims{"exp": nil}),
		"exp of text":         hs(jwt.MapClaims{"exp": "tomorrow"}),
		"not valid yet":       hs(jwt.MapClaims{"nbf": time.Now().Add(time.Hour).Unix()}),
		"alg none":            sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, good(nil)),
		"HS512":               sign(t, jwt.SigningMethodHS512, secret, good(nil)),
		"RS256":               sign(t, jwt.SigningMethodRS256, other, good(nil)),
		"another secret":      sign(t, jwt.SigningMethodHS256, []byte("another"), good(nil)),
		"an empty secret":     sign(t, jwt.SigningMethodHS256, []byte(""), good(nil)),
		"without sub":         hs(jwt.MapClaims{"sub": nil}),
		"empty sub":           hs(jwt.MapClaims{"sub": ""}),
		"sub over 256 bytes":  hs(jwt.MapClaims{"sub": strings.Repeat("x", 257)}),
		"sub with a newline":  hs(jwt.MapClaims{"sub": "u1\nu2"}),
		"sub with a C1 byte":  hs(jwt.MapClaims{"sub": "u1\u0085"}),
		"sub with a DEL":      hs(jwt.MapClaims{"sub": "u1\x7f"}),
		"sub of a number":     hs(jwt.MapClaims{"sub": 7}),
		"another issuer":      hs(jwt.MapClaims{"iss": "evil"}),
		"without issuer":      hs(jwt.MapClaims{"iss": nil}),
		"another audience":    hs(jwt.MapClaims{"aud": "shop"}),
		"without audience":    hs(jwt.MapClaims{"aud": nil}),
		"tags that are a tag": hs(jwt.MapClaims{"tags": "tech"}),
		"tags of numbers":     hs(jwt.MapClaims{"tags": []int{1}}),
	}
}

func strict(s *settings) { s.Auth.Issuer, s.Auth.Audience = "cms", "newswire" }

func TestBadTokenIsUnauthorized(t *testing.T) {
	t.Parallel()
	r := newRig(t, strict)
	for name, token := range badTokens(t) {
		c := r.dial("u1", gatewaytest.Options{NoHello: true})
		c.Send(map[string]any{"type": "hello", "token": token})
		code, reason := c.Ended()
		if code != 4501 || reason != "unauthorized" {
			t.Errorf("%s: closed with %d %q, want 4501 unauthorized", name, code, reason)
		}
		for _, f := range c.Frames() {
			if f.Type == "welcome" {
				t.Errorf("%s: welcomed", name)
			}
		}
		if got := r.ask("", "GET", "/v1/poll", "", "Authorization", "Bearer "+token); got.status != 401 {
			t.Errorf("%s: poll answered %d, want 401", name, got.status)
		}
		if len(token) > 40 && strings.Contains(r.logs.String(), token[len(token)-20:]) {
			t.Errorf("%s: the token stands in the log", name)
		}
	}
	if n, _, err := r.readers.Get("u1"); n != 0 || err != nil {
		t.Errorf("a bad token made reader number %d (%v)", n, err)
	}
}

func TestGoodTokenIsTaken(t *testing.T) {
	t.Parallel()
	r := newRig(t, strict)
	for name, claims := range map[string]jwt.MapClaims{
		"as configured":     good(nil),
		"several audiences": good(jwt.MapClaims{"aud": []string{"shop", "newswire"}}),
		"longest sub":       good(jwt.MapClaims{"sub": strings.Repeat("ä", 128)}),
		"any characters":    good(jwt.MapClaims{"sub": "Zoë <z@example.com>/☃"}),
		"other claims":      good(jwt.MapClaims{"role": map[string]any{"admin": false}}),
	} {
		token := sign(t, jwt.SigningMethodHS256, secret, claims)
		if f := r.join("", gatewaytest.Options{Token: token}).Welcome(); f.Reader != claims["sub"] {
			t.Errorf("%s: welcome says reader %q, want %q", name, f.Reader, claims["sub"])
		}
	}
}

func TestAuthorizationHeaderWorksAndHelloWins(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, scheme := range []string{"Bearer ", "bearer ", "BEARER "} {
		c := r.dial("", gatewaytest.Options{NoHello: true, Header: map[string][]string{"Authorization": {scheme + r.token("u1", nil)}}})
		c.Send(map[string]any{"type": "hello"})
		if f := c.Welcome(); f.Reader != "u1" {
			t.Errorf("%q: welcome says reader %q, want u1", scheme, f.Reader)
		}
	}
	header := map[string][]string{"Authorization": {"Bearer " + r.token("u1", nil)}}
	if f := r.join("u2", gatewaytest.Options{Header: header}).Welcome(); f.Reader != "u2" {
		t.Errorf("with both, welcome says reader %q, want u2 as in hello", f.Reader)
	}
	basic := r.dial("", gatewaytest.Options{NoHello: true, Header: map[string][]string{"Authorization": {"Basic " + r.token("u1", nil)}}})
	basic.Send(map[string]any{"type": "hello"})
	if code, _ := basic.Ended(); code != 4501 {
		t.Errorf("Basic authorization ends with %d, want 4501", code)
	}
}

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
		v, err := newVerifier(Auth{PublicKey: c.public})
		if err != nil {
			t.Fatal(err)
		}
		if who, err := v.verify(sign(t, c.method, c.key, good(nil))); err != nil || who.reader != "u1" {
			t.Errorf("%s: good token gives %v, %v", alg, who, err)
		}
		der, err := x509.MarshalPKIXPublicKey(c.public)
		if err != nil {
			t.Fatal(err)
		}
		swaps := map[string]string{
			"HS256 with the DER": sign(t, jwt.SigningMethodHS256, der, good(nil)),
			"HS256 with the PEM": sign(t, jwt.SigningMethodHS256, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), good(nil)),
			"none":               sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, good(nil)),
		}
		if alg == "RS256" {
			swaps["RS512"] = sign(t, jwt.SigningMethodRS512, rsaKey, good(nil))
			swaps["PS256"] = sign(t, jwt.SigningMethodPS256, rsaKey, good(nil))
		}
		for name, token := range swaps {
			if who, err := v.verify(token); err == nil {
				t.Errorf("%s: a token signed %s is taken for %s", alg, name, who.reader)
			}
		}
	}
}

func TestAuthMustBeConfigured(t *testing.T) {
	t.Parallel()
	if _, err := newVerifier(Auth{}); err == nil {
		t.Error("a gateway without a key is taken")
	}
	if _, err := newVerifier(Auth{PublicKey: "a text"}); err == nil {
		t.Error("a key of no kind is taken")
	}
}

func TestTagsClaimLimitsWhatArrives(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	claim := func(tags ...string) gatewaytest.Claims { return gatewaytest.Claims{"tags": tags} }
	c := r.join("u1", gatewaytest.Options{Token: r.token("u1", nil), Follow: []string{"*", "sport"}})
	r.publish(1, "news")
	c.WaitMessages(1)
	// A narrower token: the stored follow of sport stops matching, and * stands
	// for what the token permits.
	if f := c.Ask("t", map[string]any{"type": "token", "token": r.token("u1", claim("tech", "team:*"))}); f.Type != "token" {
		t.Fatalf("answer is %s", f.Raw)
	}
	r.publish(1, "sport")
	r.publish(1, "news")
	r.publish(1, "team")
	want := append(r.publish(1, "tech", "sport"), r.publish(1, "team:a")...)
	if got := ids(c.WaitMessages(3)[1:]); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, f := range []map[string]any{{"type": "follow", "tags": []string{"tech", "sport"}}, {"type": "follow", "tags": []string{"team"}}} {
		if f := c.Ask("f"+fmt.Sprint(f["tags"]), f); f.Type != "error" || string(f.Code) != `"tag_forbidden"` {
			t.Errorf("answer is %s, want tag_forbidden", f.Raw)
		}
	}
}

func ids(frames []gatewaytest.Frame) (list []string) {
	for _, f := range frames {
		list = append(list, f.ID)
	}
	return list
}

func TestFreshTokenOfTheSameReaderProlongsTheSession(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	exp := time.Now().Add(2 * time.Second).Unix()
	c := r.join("u1", gatewaytest.Options{Token: r.token("u1", gatewaytest.Claims{"exp": exp})})
	left := r.join("u1", gatewaytest.Options{Token: r.token("u1", gatewaytest.Claims{"exp": exp})})
	for name, token := range map[string]string{
		"another reader's": r.token("u2", nil),
		"expired":          r.token("u1", gatewaytest.Claims{"exp": time.Now().Add(-time.Minute).Unix()}),
		"missing":          "",
	} {
		if f := c.Ask(name, map[string]any{"type": "token", "token": token}); f.Type != "error" || string(f.Code) != `"unauthorized"` {
			t.Errorf("%s token: answer is %s, want an error with code unauthorized", name, f.Raw)
		}
	}
	later := time.Now().Add(time.Hour).Unix()
	f := c.Ask("fresh", map[string]any{"type": "token", "token": r.token("u1", gatewaytest.Claims{"exp": later})})
	if want := time.Unix(later, 0).UTC().Format(time.RFC3339); f.Type != "token" || f.Expires != want {
		t.Errorf("answer to a fresh token is %s, want expires %s", f.Raw, want)
	}
	endsWith(t, left, endTokenExpired) // its token ran out; the refreshed one's has by now
	if now := time.Now().Unix(); now < exp {
		t.Errorf("a session ended %d s before its token", exp-now)
	}
	c.Sync()
}

func TestTokensTellTheSiteFromItsReaders(t *testing.T) {
	tokens, err := NewTokens(Auth{Secret: secret})
	if err != nil {
		t.Fatal(err)
	}
	sign := func(claims jwt.MapClaims) string {
		text, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(secret)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	soon := time.Now().Add(time.Minute).Unix()
	if who, err := tokens.Check(sign(jwt.MapClaims{"sub": "u1", "exp": soon})); err != nil || who != (Holder{Reader: "u1"}) {
		t.Errorf("a reader's token is of %+v, %v", who, err)
	}
	if who, err := tokens.Check(sign(jwt.MapClaims{"sub": "cms", "exp": soon, "newswire_role": "backend"})); err != nil || who != (Holder{"cms", RoleBackend}) {
		t.Errorf("the backend's token is of %+v, %v", who, err)
	}
	if _, err := tokens.Check(sign(jwt.MapClaims{"sub": "u1", "exp": time.Now().Add(-time.Minute).Unix()})); err == nil {
		t.Error("an expired token was taken")
	}
}
