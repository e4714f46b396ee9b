package gateway

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"newswire/gateway/gatewaytest"

	"github.com/golang-jwt/jwt/v5"
)

func strict(s *settings) { s.Auth.Issuer, s.Auth.Audience = "cms", "newswire" }

func TestBadTokenIsUnauthorized(t *testing.T) {
	t.Parallel()
	r := newRig(t, strict)
	for name, token := range gatewaytest.BadTokens(t, secret) {
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
		"as configured":     gatewaytest.Good(nil),
		"several audiences": gatewaytest.Good(jwt.MapClaims{"aud": []string{"shop", "newswire"}}),
		"longest sub":       gatewaytest.Good(jwt.MapClaims{"sub": strings.Repeat("ä", 128)}),
		"any characters":    gatewaytest.Good(jwt.MapClaims{"sub": "Zoë <z@example.com>/☃"}),
		"other claims":      gatewaytest.Good(jwt.MapClaims{"role": map[string]any{"admin": false}}),
	} {
		token := gatewaytest.Sign(t, jwt.SigningMethodHS256, secret, claims)
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
