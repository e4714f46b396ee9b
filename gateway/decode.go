package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"unicode/utf16"
	"unicode/utf8"
)

var errNotUTF8 = errors.New("not UTF-8")

// decodeJSON reads what a client has sent. encoding/json would put U+FFFD in
// place of what is no text, so that a tag was not the one that was meant: bytes
// that are no UTF-8 are refused, and an escape of half a character becomes a
// control character, which no tag, id or reader may have. raw may change.
func decodeJSON(raw []byte, into any) error {
	if !utf8.Valid(raw) {
		return errNotUTF8
	}
	markHalves(raw)
	return json.Unmarshal(raw, into)
}

// markHalves replaces escaped surrogates that are no pair (RFC 8259 §8.2) by
// \u0000.
func markHalves(raw []byte) {
	for at := 0; ; {
		next := bytes.IndexByte(raw[at:], '\\')
		if next < 0 {
			return
		}
		at += next
		first := escaped(raw[at:])
		switch {
		case !utf16.IsSurrogate(first):
			at += min(2, len(raw)-at) // whatever is escaped, another backslash too
		case utf16.DecodeRune(first, escaped(raw[at+6:])) != utf8.RuneError:
			at += 12
		default:
			copy(raw[at+2:], "0000")
			at += 6
		}
	}
}

// escaped gives the character that \uXXXX at the beginning of b stands for; 0
// when none is there.
func escaped(b []byte) (r rune) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0
	}
	for _, c := range b[2:6] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			c = (c | 0x20) - 'a' + 10
		default:
			return 0
		}
		r = r<<4 | rune(c)
	}
	return r
}
