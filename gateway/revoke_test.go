package gateway

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"newswire/gateway/gatewaytest"
)

// revoke makes a revocation and gives how many sessions it ended.
func (r *rig) revoke(wanted Revocation) (ended int) {
	r.t.Helper()
	_, ended, err := r.gateway.Revoke(r.t.Context(), wanted)
	if err != nil {
		r.t.Fatalf("revoke %+v: %v", wanted, err)
	}
	return ended
}

func TestRevokedTokenEndsItsSessionsAndNoOthers(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *settings) { s.Auth.Leeway = time.Minute }) // for one issued in the second behind the revocation
	with := func(reader, id string, issued time.Time) gatewaytest.Options {
		return gatewaytest.Options{Token: r.token(reader, gatewaytest.Claims{"jti": id, "iat": issued.Unix()})}
	}
	now := time.Now()
	stolen, kept := with("u1", "stolen", now), with("u1", "kept", now)
	a, b, other := r.join("", stolen), r.join("", kept), r.join("", with("u2", "other", now))
	if n := r.revoke(Revocation{TokenID: "stolen"}); n != 1 {
		t.Errorf("%d sessions ended, want 1", n)
	}
	endsWith(t, a, endForbidden)
	b.Sync()
	other.Sync()
	endsWith(t, r.dial("", stolen), endForbidden)
	wantProblem(t, r.ask("", "GET", "/v1/poll", "", "Authorization", "Bearer "+stolen.Token), 403, "forbidden")
	if f := b.Ask("t", map[string]any{"type": "token", "token": stolen.Token}); f.Type != "error" || string(f.Code) != `"forbidden"` {
		t.Errorf("a revoked token brought in band is answered %s, want an error with code forbidden", f.Raw)
	}
	b.Sync()

	// All of one reader's, but not those that it is given afterwards.
	if n := r.revoke(Revocation{Reader: "u1"}); n != 1 {
		t.Errorf("%d sessions ended, want 1", n)
	}
	endsWith(t, b, endForbidden)
	endsWith(t, r.dial("", gatewaytest.Options{Token: r.token("u1", gatewaytest.Claims{"iat": nil})}), endForbidden)
	fresh := r.join("", with("u1", "fresh", now.Add(2*time.Second)))
	fresh.Sync()
	other.Sync()
	if n := r.metric("newswire_gateway_closed_total", "forbidden"); n != 4 {
		t.Errorf("%v sessions counted as forbidden, want 4", n)
	}
	if log := r.logs.String(); strings.Contains(log, stolen.Token) || strings.Contains(log, "0001-01-01") || !strings.Contains(log, "tokens revoked") {
		t.Errorf("the log has the token, an end where there is none, or nothing of the revocation:\n%s", log)
	}
}

// A poll that waits is ended once its token is refused, and those of others are not.
func TestRevocationReachesAPollThatWaits(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.ask("u1", "PUT", "/v1/subscriptions", `{"follow":["tech"]}`)
	number, _, err := r.readers.Get("u1")
	if err != nil {
		t.Fatal(err)
	}
	answers := make(chan reply, 1)
	go func() { answers <- r.ask("u1", "GET", "/v1/poll?wait=25", "") }()
	r.eventually("the poll waits", func() bool { return r.waits(number) == 1 })
	r.follow("u2", "tech")
	other, _, _ := r.readers.Get("u2")
	others := make(chan poll, 1)
	go func() { others <- r.poll("u2", "?wait=25") }()
	r.eventually("the other poll waits", func() bool { return r.waits(other) == 1 })
	r.revoke(Revocation{Reader: "u1", IssuedBefore: time.Now().Add(2 * time.Second)})
	wantProblem(t, <-answers, 403, "forbidden") // else it would be 204 after 25 s
	ids := r.publish(1, "tech")
	r.routed()
	r.wantUnread("u1", ids)
	if p := <-others; !slices.Equal(p.ids(), ids) {
		t.Errorf("the other's poll brought %v, want %v", p.ids(), ids)
	}
}

// What is refused stays so over restarts, until the tokens have expired by
// themselves or it is taken back.
func TestRevocationsAreKeptUntilTheyAreOver(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *settings) { s.Auth.MaxTTL = 24 * time.Hour })
	reload := func() *revocations {
		t.Helper()
		rs, err := loadRevocations(r.journal)
		if err != nil {
			t.Fatal(err)
		}
		return rs
	}
	now := time.Now()
	who := func(reader, id string, issued time.Time) identity {
		return identity{Reader: reader, ID: id, Issued: issued}
	}
	soon := now.Add(time.Hour)
	r.revoke(Revocation{TokenID: "a", Expires: soon})
	r.revoke(Revocation{TokenID: "b"})
	r.revoke(Revocation{Reader: "u1", IssuedBefore: now})
	r.revoke(Revocation{Reader: "u1", IssuedBefore: now.Add(-time.Hour)}) // takes nothing back
	for _, rs := range []*revocations{r.gateway.revoked, reload()} {
		for _, c := range []struct {
			who  identity
			want bool
		}{
			{who("x", "a", now), true},
			{who("x", "b", now), true},
			{who("x", "c", now), false},
			{who("x", "", now), false},
			{who("u1", "c", now.Add(-time.Second)), true},
			{who("u1", "c", time.Time{}), true},
			{who("u1", "c", now.Add(time.Second)), false},
		} {
			if got := rs.covers(c.who); got != c.want {
				t.Errorf("%+v is refused: %t, want %t", c.who, got, c.want)
			}
		}
	}
	list := r.gateway.Revocations()
	if len(list) != 3 || !list[1].Expires.Equal(soon) || list[2].Expires.Sub(now) < 23*time.Hour || list[2].Expires.After(now.Add(25*time.Hour)) {
		t.Errorf("in force are %+v; without an end of their own they end with gateway.auth.max_ttl", list)
	}
	if err := r.gateway.revoked.forget(t.Context(), now.Add(2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if found, err := r.gateway.Unrevoke(t.Context(), Revocation{Reader: "u1"}); !found || err != nil {
		t.Errorf("taking back: %t, %v", found, err)
	}
	if found, err := r.gateway.Unrevoke(t.Context(), Revocation{Reader: "u1"}); found || err != nil {
		t.Errorf("taking back twice: %t, %v", found, err)
	}
	for _, rs := range []*revocations{r.gateway.revoked, reload()} {
		if left := rs.list(); len(left) != 1 || left[0].TokenID != "b" {
			t.Errorf("left are %+v, want b alone", left)
		}
	}
	wrong := map[string]Revocation{
		"nothing":                     {},
		"both":                        {TokenID: "a", Reader: "u1"},
		"a token issued before":       {TokenID: "a", IssuedBefore: now},
		"a reader of control letters": {Reader: "u\n1"},
		"a long id":                   {TokenID: strings.Repeat("x", 1025)},
		"what is over":                {TokenID: "a", Expires: now.Add(-time.Second)},
	}
	for name, wanted := range wrong {
		var fault *ErrRevocation
		if _, _, err := r.gateway.Revoke(t.Context(), wanted); !errors.As(err, &fault) {
			t.Errorf("revoking %s: %v, want a fault", name, err)
		}
	}
}

// Whatever comes first, the revocation or the hello: no session of the token
// goes on.
func TestRevocationRacesTheHello(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for round := range 10 {
		reader := fmt.Sprint("u", round)
		token := r.token(reader, gatewaytest.Claims{"jti": reader})
		var revoking sync.WaitGroup
		var sessions []*gatewaytest.Reader
		for n := range 6 {
			if n == 3 {
				revoking.Go(func() { r.revoke(Revocation{TokenID: reader}) })
			}
			sessions = append(sessions, r.dial("", gatewaytest.Options{Token: token}))
		}
		revoking.Wait()
		for _, c := range sessions {
			endsWith(t, c, endForbidden)
		}
	}
}
