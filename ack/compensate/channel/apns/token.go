package apns

import (
	"crypto/ecdsa"
	"fmt"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	tokenLife  = 40 * time.Minute // Apple refuses a token of more than an hour,
	leastRenew = 20 * time.Minute // and who makes more than one in 20 minutes
)

// tokens makes provider tokens, one for all requests.
type tokens struct {
	key    *ecdsa.PrivateKey // fixed
	keyID  string            // fixed
	teamID string            // fixed
	now    func() time.Time  // fixed

	mu      sync.Mutex // guards the rest
	signed  string
	issued  time.Time
	renewed time.Time // when Apple last made us renew it
}

// current is the token to use, which is made anew when it is old, or when the
// clock was put back behind it.
func (t *tokens) current() (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if age := now.Sub(t.issued); t.signed != "" && age >= 0 && age < tokenLife {
		return t.signed, nil
	}
	token := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"iss": t.teamID, "iat": now.Unix()})
	token.Header["kid"] = t.keyID
	signed, err := token.SignedString(t.key)
	if err != nil {
		return "", fmt.Errorf("sign the provider token: %w", err)
	}
	t.signed, t.issued = signed, now
	return signed, nil
}

// renew throws the token away that Apple called expired, and tells whether
// another one is worth a try: not when Apple has just had one made, for
// then the clock here is wrong.
func (t *tokens) renew(expired string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.signed != expired {
		return true // another request was faster
	}
	now := t.now()
	if since := now.Sub(t.renewed); !t.renewed.IsZero() && since >= 0 && since < leastRenew {
		return false
	}
	t.signed, t.renewed = "", now
	return true
}
