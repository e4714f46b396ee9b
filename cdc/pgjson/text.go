package pgjson

import (
	"encoding/binary"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// plain says which bytes stand for themselves in a JSON string; the others are
// escaped, or, from 0x80 on, checked.
var plain = func() (table [256]bool) {
	for b := 0x20; b < 0x80; b++ {
		table[b] = b != '"' && b != '\\'
	}
	return table
}()

// appendString appends a JSON string. Bytes that are no UTF-8, which only a
// database with encoding SQL_ASCII can hold, become U+FFFD: a WebSocket text
// frame could not carry them.
func appendString(dst, s []byte) []byte {
	dst = append(dst, '"')
	dst = appendEscaped(dst, s)
	return append(dst, '"')
}

// allPlain tells eight bytes that are plain, all of them. It may say no where they
// are: subtraction borrows from the next byte.
func allPlain(eight uint64) bool {
	const each, high = 0x0101010101010101, 0x8080808080808080
	quotes, slashes := eight^'"'*each, eight^'\\'*each // a byte that is one becomes 0
	return (eight|(eight-' '*each)|(quotes-each)|(slashes-each))&high == 0
}

func appendEscaped(dst, s []byte) []byte {
	begin := 0
	for i := 0; i < len(s); {
		if len(s)-i >= 8 && allPlain(binary.NativeEndian.Uint64(s[i:])) {
			i += 8
			continue
		}
		b := s[i]
		if plain[b] {
			i++
			continue
		}
		if b < utf8.RuneSelf {
			dst = append(dst, s[begin:i]...)
			dst = appendEscape(dst, b)
			i++
			begin = i
			continue
		}
		r, size := utf8.DecodeRune(s[i:])
		if r == utf8.RuneError && size == 1 {
			dst = append(dst, s[begin:i]...)
			dst = utf8.AppendRune(dst, utf8.RuneError)
			i++
			begin = i
			continue
		}
		i += size
	}
	return append(dst, s[begin:]...)
}

func appendEscape(dst []byte, b byte) []byte {
	switch b {
	case '"', '\\':
		return append(dst, '\\', b)
	case '\b':
		return append(dst, '\\', 'b')
	case '\f':
		return append(dst, '\\', 'f')
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	default:
		return append(dst, '\\', 'u', '0', '0', hexDigits[b>>4], hexDigits[b&0xf])
	}
}
