package gateway

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// serveScript gives a script, compressed to who takes that, or says that it is
// unchanged.
func serveScript(script []byte) http.Handler {
	sum := sha256.Sum256(script)
	tag := hex.EncodeToString(sum[:8])
	packed := compressed(script)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer limitAnswer(w)()
		h, body, etag := w.Header(), script, `"`+tag+`"`
		if takesGzip(r) {
			body, etag = packed, `"`+tag+`-gzip"` // other bytes, another tag
			h.Set("Content-Encoding", "gzip")
		}
		h.Add("Vary", "Accept-Encoding")
		h.Set("ETag", etag)
		h.Set("Cache-Control", "no-cache")
		h.Set("Content-Type", "text/javascript; charset=utf-8")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
	})
}

// compressed packs a script as well as gzip can.
func compressed(script []byte) []byte {
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err == nil {
		_, err = w.Write(script)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil { // neither the level nor a buffer can fail
		panic(fmt.Sprintf("compress a script: %v", err))
	}
	return packed.Bytes()
}

// takesGzip tells whether a client names gzip, and not with a weight of 0 (RFC
// 9110 §12.5.3).
func takesGzip(r *http.Request) bool {
	for _, field := range r.Header.Values("Accept-Encoding") {
		for coding := range strings.SplitSeq(field, ",") {
			name, weight, weighed := strings.Cut(coding, ";")
			if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
				continue
			}
			_, value, _ := strings.Cut(weight, "=")
			q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			return !weighed || err == nil && q > 0
		}
	}
	return false
}
