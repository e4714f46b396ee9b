package webpush

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Sizes of RFC 8188 and 8291. A push service need take no more than 4096 bytes,
// so a message is one record of that.
const (
	recordSize = 4096
	saltSize   = 16
	authSize   = 16
	pointSize  = 65                                // P-256, uncompressed
	headSize   = saltSize + 4 + 1 + pointSize      // salt, record size, length of the key, key
	mostPlain  = recordSize - headSize - 16 - 1    // less the tag and the delimiter
	padTo      = 256                               // so that a length tells little about the text
	lastRecord = 2                                 // delimiter
	keyInfo    = "Content-Encoding: aes128gcm\x00" // RFC 8188 §2.2
	nonceInfo  = "Content-Encoding: nonce\x00"     // RFC 8188 §2.3
	pushInfo   = "WebPush: info\x00"               // RFC 8291 §3.4
)

// subscriber is a browser's side of the encryption.
type subscriber struct {
	public *ecdh.PublicKey
	auth   []byte
}

func parseSubscriber(keys map[string]string) (subscriber, error) {
	point, err := decode64(keys["p256dh"])
	if err != nil || len(point) != pointSize {
		return subscriber{}, errors.New("keys.p256dh is not a P-256 point in base64url, as a browser's subscription has it")
	}
	public, err := ecdh.P256().NewPublicKey(point)
	if err != nil {
		return subscriber{}, errors.New("keys.p256dh is not on the curve P-256")
	}
	auth, err := decode64(keys["auth"])
	if err != nil || len(auth) != authSize {
		return subscriber{}, errors.New("keys.auth is not 16 bytes in base64url, as a browser's subscription has it")
	}
	return subscriber{public, auth}, nil
}

// decode64 takes base64 as browsers and libraries write it: either alphabet,
// with or without padding.
func decode64(s string) ([]byte, error) {
	if len(s) > 256 {
		return nil, errors.New("too long")
	}
	s = strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(s, "="))
	return base64.RawURLEncoding.Strict().DecodeString(s)
}

// encrypt makes the body of one push message.
func (to subscriber) encrypt(plain []byte) ([]byte, error) {
	ephemeral, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate a key: %w", err)
	}
	salt := make([]byte, saltSize)
	rand.Read(salt) // never fails
	return to.encryptWith(ephemeral, salt, pad(plain))
}

// pad adds the delimiter of a last record, and zeros.
func pad(plain []byte) []byte {
	n := len(plain) + 1
	if padded := (n + padTo - 1) / padTo * padTo; padded <= mostPlain+1 {
		n = padded
	} else if n <= mostPlain+1 {
		n = mostPlain + 1
	}
	return append(slices.Grow(slices.Clone(plain), n-len(plain)), append([]byte{lastRecord}, make([]byte, n-len(plain)-1)...)...)
}

// encryptWith is RFC 8291 §3.4 and RFC 8188 §2, with a key and a salt that must
// never be used again.
func (to subscriber) encryptWith(ephemeral *ecdh.PrivateKey, salt, padded []byte) ([]byte, error) {
	if len(padded) > mostPlain+1 {
		return nil, fmt.Errorf("the message has %d bytes, more than the %d that push services take", len(padded)-1, mostPlain)
	}
	shared, err := ephemeral.ECDH(to.public)
	if err != nil {
		return nil, fmt.Errorf("agree on a key: %w", err)
	}
	sender := ephemeral.PublicKey().Bytes()
	info := pushInfo + string(to.public.Bytes()) + string(sender)
	secret, err := hkdf.Key(sha256.New, shared, to.auth, info, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive the secret: %w", err)
	}
	key, err := hkdf.Key(sha256.New, secret, salt, keyInfo, 16)
	if err != nil {
		return nil, fmt.Errorf("derive the key: %w", err)
	}
	nonce, err := hkdf.Key(sha256.New, secret, salt, nonceInfo, 12)
	if err != nil {
		return nil, fmt.Errorf("derive the nonce: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("use the key: %w", err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("use the key: %w", err)
	}
	out := make([]byte, 0, headSize+len(padded)+gcm.Overhead())
	out = append(out, salt...)
	out = binary.BigEndian.AppendUint32(out, recordSize)
	out = append(out, pointSize)
	out = append(out, sender...)
	return gcm.Seal(out, nonce, padded, nil), nil
}
