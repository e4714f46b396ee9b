package tokens

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
)

// Limits of a JWKS.
const (
	maxJWKS     = 256 << 10 // bytes
	maxJWKSKeys = 100
)

// jwk is one key of a JWKS (RFC 7517), as far as signatures go.
type jwk struct {
	Type  string   `json:"kty"`
	ID    string   `json:"kid"`
	Use   string   `json:"use"`
	Ops   []string `json:"key_ops"`
	Alg   string   `json:"alg"`
	Curve string   `json:"crv"`
	N     string   `json:"n"`
	E     string   `json:"e"`
	X     string   `json:"x"`
	Y     string   `json:"y"`
}

// parseJWKS gives the keys that can check a token of ours. Others, those for
// encryption or of another algorithm, may stand beside them; a shared secret
// (kty oct) is never taken from a set that anybody can read.
func parseJWKS(text []byte) (*keyring, error) {
	var set struct {
		Keys []jwk `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, errors.New(`is no JWKS: want {"keys":[…]}`)
	}
	if len(set.Keys) > maxJWKSKeys {
		return nil, fmt.Errorf("holds %d keys; at most %d are taken", len(set.Keys), maxJWKSKeys)
	}
	ring := new(keyring)
	why := errors.New("it has none")
	for _, k := range set.Keys {
		public, err := k.public()
		if err == nil {
			var alg string
			if alg, err = algorithmOf(public); err == nil && k.Alg != "" && k.Alg != alg {
				err = fmt.Errorf("its algorithm is %.20q", k.Alg)
			}
			if err == nil && k.signs() {
				ring.keys = append(ring.keys, key{id: k.ID, alg: alg, key: public})
				continue
			}
		}
		if err != nil {
			why = err
		}
	}
	if len(ring.keys) == 0 {
		return nil, fmt.Errorf("holds no key that checks RS256, ES256 or EdDSA: %w", why)
	}
	return ring, nil
}

// CheckJWKS tells what is wrong with a JWKS, if anything is.
func CheckJWKS(text []byte) error {
	_, err := parseJWKS(text)
	return err
}

// signs tells whether the key is meant for signatures.
func (k jwk) signs() bool {
	if k.Use != "" && k.Use != "sig" {
		return false
	}
	for _, op := range k.Ops {
		if op == "verify" {
			return true
		}
	}
	return len(k.Ops) == 0
}

// public makes the key.
func (k jwk) public() (crypto.PublicKey, error) {
	switch {
	case k.Type == "RSA":
		return k.rsa()
	case k.Type == "EC" && k.Curve == "P-256":
		return k.ec()
	case k.Type == "OKP" && k.Curve == "Ed25519":
		x, err := base64.RawURLEncoding.DecodeString(k.X)
		if err != nil || len(x) != ed25519.PublicKeySize {
			return nil, errors.New("an Ed25519 key has no x of 32 bytes")
		}
		return ed25519.PublicKey(x), nil
	}
	return nil, fmt.Errorf("a key is of type %.20q %.20q", k.Type, k.Curve)
}

func (k jwk) rsa() (crypto.PublicKey, error) {
	n, errN := base64.RawURLEncoding.DecodeString(k.N)
	e, errE := base64.RawURLEncoding.DecodeString(k.E)
	exponent := new(big.Int).SetBytes(e)
	if errN != nil || errE != nil || len(n) == 0 || len(n) > 2048 || !exponent.IsInt64() || exponent.Int64() < 3 || exponent.Int64() > 1<<31-1 {
		return nil, errors.New("an RSA key has no usable n and e")
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent.Int64())}, nil
}

func (k jwk) ec() (crypto.PublicKey, error) {
	x, errX := base64.RawURLEncoding.DecodeString(k.X)
	y, errY := base64.RawURLEncoding.DecodeString(k.Y)
	if errX != nil || errY != nil || len(x) != 32 || len(y) != 32 {
		return nil, errors.New("a P-256 key has no x and y of 32 bytes")
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
	if err != nil {
		return nil, errors.New("a P-256 key is not on its curve")
	}
	return public, nil
}
