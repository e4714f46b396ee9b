package tokens

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// algorithms are the ones there are. Each belongs to one kind of key.
var algorithms = []string{"HS256", "RS256", "ES256", "EdDSA"}

// Least sizes of keys.
const (
	MinSecretBytes = 32   // RFC 7518 §3.2 wants a key as long as HS256's hash
	minRSABits     = 2048 // RFC 7518 §3.3 wants no less for RS256
)

// maxTried is how many keys are tried for a token that does not name its key,
// so that nobody makes the server work through a long list.
const maxTried = 8

// key is one that checks signatures.
type key struct {
	id  string // kid; empty fits every token
	alg string // the only one that it checks
	key any
}

// keyring is the keys of one moment. It does not change.
type keyring struct{ keys []key }

// knows tells whether there is a key that a token with this kid may mean.
func (r *keyring) knows(kid string) bool {
	return r != nil && slices.ContainsFunc(r.keys, func(k key) bool { return k.fits(kid) })
}

func (k key) fits(kid string) bool { return k.id == "" || kid == "" || k.id == kid }

// fitting gives the keys that may have signed a token of this algorithm.
func (r *keyring) fitting(alg, kid string) (keys []jwt.VerificationKey) {
	if r == nil {
		return nil
	}
	for _, k := range r.keys {
		if k.alg == alg && k.fits(kid) && len(keys) < maxTried {
			keys = append(keys, k.key)
		}
	}
	return keys
}

// secretKeys is the ring of one shared secret.
func secretKeys(secret []byte) (*keyring, error) {
	secret = bytes.TrimRight(secret, "\r\n")
	if len(secret) < MinSecretBytes {
		return nil, fmt.Errorf("holds %d bytes: a secret needs at least %d, such as openssl rand -base64 48 prints", len(secret), MinSecretBytes)
	}
	return &keyring{[]key{{alg: "HS256", key: bytes.Clone(secret)}}}, nil
}

// publicKeys is the ring of keys without names.
func publicKeys(public []crypto.PublicKey) (*keyring, error) {
	ring := new(keyring)
	for _, p := range public {
		alg, err := algorithmOf(p)
		if err != nil {
			return nil, err
		}
		ring.keys = append(ring.keys, key{alg: alg, key: p})
	}
	return ring, nil
}

func pemKeys(text []byte) (*keyring, error) {
	public, err := ParsePEM(text)
	if err != nil {
		return nil, err
	}
	return publicKeys(public)
}

// ParsePEM reads public keys and certificates; several stand in a file while one
// takes the place of another.
func ParsePEM(text []byte) (public []crypto.PublicKey, err error) {
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		one, err := parseBlock(block)
		if err != nil {
			return nil, err
		}
		public = append(public, one)
	}
	if len(public) == 0 {
		return nil, errors.New("no PEM block in it; write what openssl pkey -pubout prints")
	}
	return public, nil
}

func parseBlock(block *pem.Block) (public crypto.PublicKey, err error) {
	switch block.Type {
	case "PUBLIC KEY":
		public, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		public, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		var cert *x509.Certificate
		if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
			public = cert.PublicKey
		}
	default:
		return nil, fmt.Errorf("%.40q is not a public key; write what openssl pkey -pubout prints", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("the key cannot be read: %s", strings.Join(strings.Fields(err.Error()), " "))
	}
	_, err = algorithmOf(public)
	return public, err
}

// algorithmOf gives the one algorithm that a key checks, if it is strong enough.
func algorithmOf(public crypto.PublicKey) (string, error) {
	switch k := public.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() < minRSABits {
			return "", fmt.Errorf("the RSA key has %d bits; use at least %d", k.N.BitLen(), minRSABits)
		}
		return "RS256", nil
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return "", errors.New("the curve is not P-256, which ES256 needs")
		}
		return "ES256", nil
	case ed25519.PublicKey:
		return "EdDSA", nil
	}
	return "", errors.New("the key is not RSA, P-256 or Ed25519")
}

// equal tells whether two rings hold the same keys in the same order.
func (r *keyring) equal(other *keyring) bool {
	if r == nil || other == nil {
		return r == other
	}
	return slices.EqualFunc(r.keys, other.keys, func(a, b key) bool {
		public, ok := a.key.(interface{ Equal(crypto.PublicKey) bool })
		return a.id == b.id && a.alg == b.alg && ok && public.Equal(b.key)
	})
}
