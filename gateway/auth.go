package gateway

import (
	"context"
	"errors"
	"net/http"
	"time"

	"newswire/fanout/journal"
	"newswire/gateway/tokens"
)

// Auth says whose tokens are good.
type Auth = tokens.Config

// identity is what a valid token says.
type identity = tokens.Identity

// errRevoked is why a token is refused that was good before.
var errRevoked = errors.New("token was revoked")

// identify tells who shows a token. The error is one that refuse and
// endingFor know, and says nothing of what the token holds.
func (g *Gateway) identify(ctx context.Context, token string) (identity, error) {
	who, err := g.verifier.Verify(ctx, token)
	if err == nil && g.revoked.covers(who) {
		err = errRevoked
	}
	return who, err
}

// endingFor is how a session ends whose token was refused.
func endingFor(err error) (e ending, retryAfter time.Duration) {
	switch {
	case errors.Is(err, errRevoked):
		return endForbidden, 0
	case errors.Is(err, tokens.ErrUnavailable):
		return endUnavailable, time.Second
	}
	return endUnauthorized, 0
}

// codeFor is the code of an error frame for a token that was refused.
func codeFor(err error) string {
	switch {
	case errors.Is(err, errRevoked):
		return "forbidden"
	case errors.Is(err, tokens.ErrUnavailable):
		return "unavailable"
	}
	return "unauthorized"
}

// refuseToken answers a request whose token was refused.
func refuseToken(w http.ResponseWriter, err error) {
	switch code := codeFor(err); code {
	case "forbidden":
		problem(w, http.StatusForbidden, code, err.Error())
	case "unavailable":
		refuse(w, http.StatusServiceUnavailable, time.Second, code, err.Error())
	default:
		w.Header().Set("WWW-Authenticate", "Bearer")
		problem(w, http.StatusUnauthorized, code, err.Error())
	}
}

// jwksCache keeps the keys of a JWKS address in the journal's database.
type jwksCache struct{ j Journal }

var jwksKey = journal.SpaceGateway.Key([]byte("jwks")...)

func (c jwksCache) Load() (record []byte, err error) {
	err = c.j.View(func(v journal.View) error {
		record, _, err = v.Get(jwksKey)
		return err
	})
	return record, err
}

func (c jwksCache) Save(ctx context.Context, record []byte) error {
	var u journal.Update
	u.Set(jwksKey, record)
	return c.j.ApplySync(ctx, u)
}
