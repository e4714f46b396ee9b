package gatewaytest

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Claims is what a test's token says beside sub.
type Claims = jwt.MapClaims

// Token signs an HS256 token for a reader, valid for an hour unless more says
// otherwise.
func Token(t testing.TB, secret []byte, reader string, more Claims) string {
	t.Helper()
	claims := jwt.MapClaims{"sub": reader, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()}
	for k, v := range more {
		claims[k] = v
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(secret)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// Sign makes a token with any method and claims.
func Sign(t testing.TB, method jwt.SigningMethod, key any, claims jwt.MapClaims) string {
	t.Helper()
	token, err := jwt.NewWithClaims(method, claims).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// Good is what a token of reader u1 says that is taken where issuer cms and
// audience newswire are wanted.
func Good(more jwt.MapClaims) jwt.MapClaims {
	claims := jwt.MapClaims{"sub": "u1", "exp": time.Now().Add(time.Hour).Unix(), "iss": "cms", "aud": "newswire"}
	for k, v := range more {
		if claims[k] = v; v == nil {
			delete(claims, k)
		}
	}
	return claims
}

// critical makes a token that is to be refused by who does not understand an
// extension (RFC 7515 §4.1.11).
func critical(t testing.TB, secret []byte) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, Good(nil))
	token.Header["crit"], token.Header["x-bound"] = []string{"x-bound"}, "to a device"
	signed, err := token.SignedString(secret)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// BadTokens are refused by who checks HS256, issuer cms and audience newswire.
func BadTokens(t testing.TB, secret []byte) map[string]string {
	hs := func(more jwt.MapClaims) string { return Sign(t, jwt.SigningMethodHS256, secret, Good(more)) }
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
		"issued tomorrow":     hs(jwt.MapClaims{"iat": time.Now().Add(24 * time.Hour).Unix(), "exp": time.Now().Add(25 * time.Hour).Unix()}),
		"a crit header":       critical(t, secret),
		"alg none":            Sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, Good(nil)),
		"HS512":               Sign(t, jwt.SigningMethodHS512, secret, Good(nil)),
		"RS256":               Sign(t, jwt.SigningMethodRS256, other, Good(nil)),
		"another secret":      Sign(t, jwt.SigningMethodHS256, []byte("another"), Good(nil)),
		"an empty secret":     Sign(t, jwt.SigningMethodHS256, []byte(""), Good(nil)),
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
		"tags that are null":  hs(jwt.MapClaims{"tags": json.RawMessage("null")}),
		"tags of numbers":     hs(jwt.MapClaims{"tags": []int{1}}),
	}
}
