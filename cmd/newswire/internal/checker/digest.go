package checker

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// Digest stands for a JSON value, whatever its spaces and the order of its keys;
// numbers count digit for digit. Two values that differ never share one.
type Digest string

// DigestOf makes the digest of a JSON text; "" for one that is none.
func DigestOf(text []byte) Digest {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return ""
	}
	canonical, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(canonical)
	return Digest(hex.EncodeToString(sum[:12]))
}
