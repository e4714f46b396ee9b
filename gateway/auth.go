package gateway

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"newswire/fanout"

	"github.com/golang-jwt/jwt/v5"
)

// Auth says whose tokens are good. Exactly one of Secret and PublicKey is set;
// it fixes the algorithm, so a token cannot choose one.
type Auth struct {
	Secret    []byte           // HS256
	PublicKey crypto.PublicKey // RS256, ES256 or EdDSA by the kind of key
	Issuer    string           // required in iss when set
	Audience  string           // required in aud when set
}

// identity is what a valid token says.
type identity struct {
	reader  string
	expires time.Time
	permit  fanout.Permit
	role    string // of the claim newswire_role
}

// RoleBackend is the newswire_role of the site's own tokens: its holder may
// speak for any reader where a listener says so.
const RoleBackend = "backend"

// Holder is whose token it is.
type Holder struct {
	Reader string
	Role   string // empty for readers
}

// Tokens checks tokens as the gateway does, for other listeners.
type Tokens struct{ verifier *verifier }

// NewTokens checks the configuration.
func NewTokens(a Auth) (*Tokens, error) {
	v, err := newVerifier(a)
	if err != nil {
		return nil, err
	}
	return &Tokens{v}, nil
}

// Check says who holds a token. The error says why it is refused, never what it
// holds.
func (t *Tokens) Check(token string) (Holder, error) {
	id, err := t.verifier.verify(token)
	return Holder{id.reader, id.role}, err
}

// verifier checks tokens. It is safe for concurrent use.
type verifier struct {
	key    any
	parser *jwt.Parser
}

func newVerifier(a Auth) (*verifier, error) {
	key, method := any(a.Secret), jwt.SigningMethodHS256.Alg()
	if a.PublicKey != nil {
		var err error
		if method, err = methodOf(a.PublicKey); err != nil {
			return nil, err
		}
		key = a.PublicKey
	} else if len(a.Secret) == 0 {
		return nil, errors.New("gateway.auth: set hs256_secret_file or public_key_file, so that readers' tokens can be checked")
	}
	opts := []jwt.ParserOption{jwt.WithValidMethods([]string{method}), jwt.WithExpirationRequired()}
	if a.Issuer != "" {
		opts = append(opts, jwt.WithIssuer(a.Issuer))
	}
	if a.Audience != "" {
		opts = append(opts, jwt.WithAudience(a.Audience))
	}
	return &verifier{key, jwt.NewParser(opts...)}, nil
}

// methodOf gives the one algorithm that a public key checks.
func methodOf(key crypto.PublicKey) (string, error) {
	switch key.(type) {
	case *rsa.PublicKey:
		return jwt.SigningMethodRS256.Alg(), nil
	case *ecdsa.PublicKey:
		return jwt.SigningMethodES256.Alg(), nil
	case ed25519.PublicKey:
		return jwt.SigningMethodEdDSA.Alg(), nil
	}
	return "", fmt.Errorf("gateway.auth.public_key_file: a key of type %T cannot check RS256, ES256 or EdDSA", key)
}

// verify checks a token. The error says why it is refused, never what it holds.
func (v *verifier) verify(token string) (identity, error) {
	var claims struct {
		jwt.RegisteredClaims
		Tags *[]string `json:"tags"`
		Role string    `json:"newswire_role"`
	}
	if token == "" {
		return identity{}, errors.New("token is missing")
	}
	_, err := v.parser.ParseWithClaims(token, &claims, func(*jwt.Token) (any, error) { return v.key, nil })
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return identity{}, errors.New("token has expired")
	case err != nil:
		return identity{}, errors.New("token is not valid here")
	}
	if err := checkReader(claims.Subject); err != nil {
		return identity{}, err
	}
	id := identity{reader: claims.Subject, expires: claims.ExpiresAt.Time, role: claims.Role}
	if claims.Tags != nil && !slices.Contains(*claims.Tags, fanout.AllTags) {
		id.permit = append(fanout.Permit{}, *claims.Tags...)
		slices.Sort(id.permit) // the order says nothing
		id.permit = slices.Compact(id.permit)
	}
	return id, nil
}

// checkReader tells whether a token's subject can be a reader.
func checkReader(sub string) error {
	if len(sub) == 0 || len(sub) > 256 || !utf8.ValidString(sub) {
		return errors.New("token has no subject of 1 to 256 bytes")
	}
	for _, r := range sub {
		if r < 0x20 || r >= 0x7f && r < 0xa0 {
			return errors.New("token has a control character in its subject")
		}
	}
	return nil
}
