package wire

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
)

const mostSecretBytes = 64 << 10

// ReadSecret reads a file that holds one secret, less the newline that editors
// leave behind it. name is the setting, for the error; the secret is in none.
func ReadSecret(name, file string) ([]byte, error) {
	if file == "" {
		return nil, fmt.Errorf("%s is empty: name a file", name)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	defer f.Close()
	secret, err := io.ReadAll(io.LimitReader(f, mostSecretBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if secret = bytes.TrimSpace(secret); len(secret) == 0 || len(secret) > mostSecretBytes {
		return nil, fmt.Errorf("%s %s holds no secret: put it there alone", name, file)
	}
	return secret, nil
}

// ParseP256 reads an ECDSA key on P-256 from PEM, in PKCS #8 or SEC 1.
func ParseP256(text []byte) (*ecdsa.PrivateKey, error) {
	errNone := errors.New("it holds no private key on P-256 in PEM")
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		var key any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		default:
			continue // EC PARAMETERS, as OpenSSL writes them before the key
		}
		if k, ok := key.(*ecdsa.PrivateKey); ok && err == nil && k.Curve == elliptic.P256() {
			return k, nil
		}
		return nil, errNone
	}
	return nil, errNone
}
