// Package tokens tells whose token it is that a reader shows.
//
// A token is believed only if one of the configured keys has signed it, with
// the one algorithm that belongs to that kind of key: a token cannot choose its
// algorithm. Keys come from files, which are read again when they change, or
// from a JWKS address, which may be away for as long as it likes once it has
// answered. No error and no log line of this package carries a token, or any
// part of one.
package tokens

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"newswire/fanout"

	"github.com/golang-jwt/jwt/v5"
)

// Config says whose tokens are good. The keys come from exactly one place: a
// secret, public keys, or a JWKS. Where a file is named, it is followed: Secret
// and PublicKeys may then hold what it had when the configuration was read.
type Config struct {
	Secret        []byte             // HS256
	SecretFile    string             // a last line end is not counted
	PublicKeys    []crypto.PublicKey // RS256, ES256 or EdDSA by the kind of each
	PublicKeyFile string             // PEM
	JWKSFile      string
	JWKSURL       string // https, or http on loopback
	Cache         Cache  // keeps what JWKSURL gave for the next start; nil: nothing does

	Issuer   string        // required in iss when set
	Audience string        // required in aud when set
	Leeway   time.Duration // by which the issuer's clock may be ahead; exp is taken as it stands
	MaxTTL   time.Duration // longest life of a token; 0 means any
}

// Cache keeps the last JWKS over restarts.
type Cache interface {
	Load() ([]byte, error) // nil when nothing was kept
	Save(ctx context.Context, jwks []byte) error
}

// Identity is what a valid token says.
type Identity struct {
	Reader  string
	ID      string    // jti; empty where it has none
	Issued  time.Time // iat; zero where it has none
	Expires time.Time
	Permit  fanout.Permit
	Role    string // of the claim newswire_role
}

// RoleBackend is the newswire_role of the site's own tokens: its holder may
// speak for any reader where a listener says so.
const RoleBackend = "backend"

// Reasons for which a token is not taken.
var (
	ErrMissing     = errors.New("token is missing")
	ErrExpired     = errors.New("token has expired")
	ErrInvalid     = errors.New("token is not valid here")
	ErrTooLong     = errors.New("token lives longer than gateway.auth.max_ttl permits")
	ErrUnavailable = errors.New("the keys that tokens are checked with cannot be had at the moment")
)

// Verifier checks tokens. It is safe for concurrent use.
type Verifier struct {
	cfg    Config
	keys   atomic.Pointer[keyring] // nil while there are none
	files  []*keyFile              // owned by Run
	remote *remote                 // nil without a JWKS address
	parser *jwt.Parser
	log    *slog.Logger
}

// New checks the configuration and reads the files. It starts nothing.
func New(cfg Config, log *slog.Logger) (*Verifier, error) {
	v := &Verifier{cfg: cfg, log: log}
	opts := []jwt.ParserOption{
		jwt.WithValidMethods(algorithms), jwt.WithExpirationRequired(), jwt.WithStrictDecoding(), jwt.WithLeeway(cfg.Leeway),
		jwt.WithIssuedAt(), // one issued in the future would outlive MaxTTL, and revocations by the time of issue
	}
	if cfg.Issuer != "" {
		opts = append(opts, jwt.WithIssuer(cfg.Issuer))
	}
	if cfg.Audience != "" {
		opts = append(opts, jwt.WithAudience(cfg.Audience))
	}
	v.parser = jwt.NewParser(opts...)
	ring, err := v.firstKeys()
	if err != nil {
		return nil, err
	}
	if ring != nil {
		v.keys.Store(ring)
	}
	return v, nil
}

// firstKeys gives the keys to begin with; nil where a JWKS address has still to
// be asked.
func (v *Verifier) firstKeys() (*keyring, error) {
	cfg := v.cfg
	for _, f := range []*keyFile{
		{key: "gateway.auth.hs256_secret_file", path: cfg.SecretFile, parse: secretKeys},
		{key: "gateway.auth.public_key_file", path: cfg.PublicKeyFile, parse: pemKeys},
		{key: "gateway.auth.jwks_file", path: cfg.JWKSFile, parse: parseJWKS},
	} {
		if f.path == "" {
			continue
		}
		v.files = append(v.files, f)
		ring, err := f.read()
		return ring, err
	}
	switch {
	case cfg.JWKSURL != "":
		var err error
		v.remote, err = newRemote(cfg.JWKSURL)
		return v.cached(), err
	case len(cfg.Secret) > 0:
		return secretKeys(cfg.Secret)
	case len(cfg.PublicKeys) > 0:
		return publicKeys(cfg.PublicKeys)
	}
	return nil, errors.New("gateway.auth: set hs256_secret_file, public_key_file, jwks_file or jwks_url, so that readers' tokens can be checked")
}

// Ready tells whether tokens can be checked, or why not.
func (v *Verifier) Ready() error {
	if v.keys.Load() == nil {
		return v.remote.why()
	}
	return nil
}

// claims are those of a token that are looked at.
type claims struct {
	jwt.RegisteredClaims
	Tags permitClaim `json:"tags"`
	Role string      `json:"newswire_role"`
}

// permitClaim is the claim tags. One that is there and no list is no claim that
// permits everything, but a fault.
type permitClaim struct {
	tags  []string
	given bool
}

func (p *permitClaim) UnmarshalJSON(raw []byte) error {
	if err := json.Unmarshal(raw, &p.tags); err != nil {
		return err
	}
	if p.given = p.tags != nil; !p.given {
		return errors.New("tags is null")
	}
	return nil
}

// permit gives what may be followed.
func (p permitClaim) permit() fanout.Permit {
	if !p.given || slices.Contains(p.tags, fanout.AllTags) {
		return nil
	}
	permit := append(fanout.Permit{}, p.tags...)
	slices.Sort(permit) // the order says nothing
	return slices.Compact(permit)
}

// lastDay bounds what a token's end can be printed as.
var lastDay = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)

// Verify checks a token. Where its key is not known yet, the JWKS address is
// asked, at most for a few seconds and not often. The error says why it is
// refused, never what it holds; ErrUnavailable says that the same token may be
// good later.
func (v *Verifier) Verify(ctx context.Context, token string) (Identity, error) {
	if token == "" {
		return Identity{}, ErrMissing
	}
	var c claims
	_, err := v.parser.ParseWithClaims(token, &c, func(t *jwt.Token) (any, error) {
		if _, ok := t.Header["crit"]; ok { // no extension is understood here (RFC 7515 §4.1.11)
			return nil, ErrInvalid
		}
		kid, _ := t.Header["kid"].(string)
		return v.fitting(ctx, t.Method.Alg(), kid)
	})
	switch {
	case errors.Is(err, ErrUnavailable):
		return Identity{}, ErrUnavailable
	case errors.Is(err, jwt.ErrTokenExpired):
		return Identity{}, ErrExpired
	case err != nil:
		return Identity{}, ErrInvalid
	case !time.Now().Before(c.ExpiresAt.Time): // within the leeway
		return Identity{}, ErrExpired
	}
	if err := CheckReader(c.Subject); err != nil {
		return Identity{}, err
	}
	id := Identity{Reader: c.Subject, ID: c.ID, Expires: c.ExpiresAt.Time, Permit: c.Tags.permit(), Role: c.Role}
	if id.Expires.After(lastDay) {
		id.Expires = lastDay
	}
	from := time.Now()
	if c.IssuedAt != nil {
		id.Issued, from = c.IssuedAt.Time, c.IssuedAt.Time
	}
	if v.cfg.MaxTTL > 0 && id.Expires.Sub(from) > v.cfg.MaxTTL {
		return Identity{}, ErrTooLong
	}
	return id, nil
}

// fitting gives the keys that may have signed a token.
func (v *Verifier) fitting(ctx context.Context, alg, kid string) (jwt.VerificationKeySet, error) {
	ring := v.keys.Load()
	if v.remote != nil && !ring.knows(kid) {
		v.refresh(context.WithoutCancel(ctx), unknownEvery) // others wait for it too; it takes askTimeout at most
		if ring = v.keys.Load(); !ring.knows(kid) && v.remote.why() != nil {
			return jwt.VerificationKeySet{}, ErrUnavailable
		}
	}
	set := jwt.VerificationKeySet{Keys: ring.fitting(alg, kid)}
	if len(set.Keys) == 0 {
		return set, ErrInvalid
	}
	return set, nil
}

// CheckReader tells whether a token's subject can be a reader.
func CheckReader(sub string) error {
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
