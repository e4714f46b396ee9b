package pgjson

import (
	"bytes"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// deepest is how many arrays and objects may lie in one another: a little less
// than what encoding/json takes, which wraps this JSON into a message.
const deepest = 9_000

// normaliser rewrites JSON as jsonb would hold it: of members with the same key
// the last, numbers without exponents, strings without needless escapes, no
// spaces.
type normaliser struct {
	text []byte
	pos  int
	dst  []byte
}

// appendJSON takes json and jsonb: what jsonb prints is normal already, and
// runs through the same check.
func appendJSON(dst, text []byte) ([]byte, error) {
	n := normaliser{text: text, dst: dst}
	err := n.value(0)
	if err == nil {
		n.space()
		if n.pos != len(text) {
			err = n.unexpected()
		}
	}
	return n.dst, err
}

func (n *normaliser) unexpected() error {
	return fmt.Errorf("%w: no JSON at byte %d", ErrShape, n.pos)
}

func (n *normaliser) space() {
	for n.pos < len(n.text) {
		switch n.text[n.pos] {
		case ' ', '\t', '\n', '\r':
			n.pos++
		default:
			return
		}
	}
}

// next gives the byte behind spaces, 0 at the end.
func (n *normaliser) next() byte {
	n.space()
	if n.pos == len(n.text) {
		return 0
	}
	return n.text[n.pos]
}

// take steps over b if it is next.
func (n *normaliser) take(b byte) bool {
	if n.next() != b || n.pos == len(n.text) {
		return false
	}
	n.pos++
	return true
}

func (n *normaliser) value(depth int) error {
	if depth > deepest {
		return fmt.Errorf("%w: JSON of more than %d levels", ErrShape, deepest)
	}
	switch n.next() {
	case '{':
		return n.object(depth)
	case '[':
		return n.array(depth)
	case '"':
		return n.string()
	case 't':
		return n.literal("true")
	case 'f':
		return n.literal("false")
	case 'n':
		return n.literal("null")
	default:
		var size int
		var err error
		n.dst, size, err = appendNumber(n.dst, n.text[n.pos:])
		n.pos += size
		return err
	}
}

func (n *normaliser) literal(word string) error {
	if !bytes.HasPrefix(n.text[n.pos:], []byte(word)) {
		return n.unexpected()
	}
	n.pos += len(word)
	n.dst = append(n.dst, word...)
	return nil
}

func (n *normaliser) array(depth int) error {
	n.pos++
	n.dst = append(n.dst, '[')
	if n.take(']') {
		n.dst = append(n.dst, ']')
		return nil
	}
	for {
		if err := n.value(depth + 1); err != nil {
			return err
		}
		if n.take(']') {
			n.dst = append(n.dst, ']')
			return nil
		}
		if !n.take(',') {
			return n.unexpected()
		}
		n.dst = append(n.dst, ',')
	}
}

// member is where one stands in dst: [begin:colon] is its key, quotes and all.
type member struct{ begin, colon, end int }

func (n *normaliser) object(depth int) error {
	n.pos++
	begin := len(n.dst)
	n.dst = append(n.dst, '{')
	if n.take('}') {
		n.dst = append(n.dst, '}')
		return nil
	}
	var members []member
	for {
		m := member{begin: len(n.dst)}
		if n.next() != '"' {
			return n.unexpected()
		}
		if err := n.string(); err != nil {
			return err
		}
		m.colon = len(n.dst)
		if !n.take(':') {
			return n.unexpected()
		}
		n.dst = append(n.dst, ':')
		if err := n.value(depth + 1); err != nil {
			return err
		}
		m.end = len(n.dst)
		members = append(members, m)
		if n.take('}') {
			break
		}
		if !n.take(',') {
			return n.unexpected()
		}
		n.dst = append(n.dst, ',')
	}
	n.dst = append(n.dst, '}')
	n.dropRepeats(begin, members)
	return nil
}

// few is up to how many members comparing each with each is the quicker way.
const few = 12

// dropRepeats rewrites the object that begins at begin without the members
// whose key comes again.
func (n *normaliser) dropRepeats(begin int, members []member) {
	key := func(m member) []byte { return n.dst[m.begin:m.colon] }
	repeated := func(i int) bool {
		for _, later := range members[i+1:] {
			if bytes.Equal(key(members[i]), key(later)) {
				return true
			}
		}
		return false
	}
	if len(members) > few {
		last := make(map[string]int, len(members))
		for i, m := range members {
			last[string(key(m))] = i
		}
		if len(last) == len(members) {
			return
		}
		repeated = func(i int) bool { return last[string(key(members[i]))] != i }
	}
	kept := make([]member, 0, few)
	for i, m := range members {
		if !repeated(i) {
			kept = append(kept, m)
		}
	}
	if len(kept) == len(members) {
		return
	}
	n.dst = n.dst[:begin+len("{")]
	for i, m := range kept { // each moves to the left or stays: nothing unread is written over
		if i > 0 {
			n.dst = append(n.dst, ',')
		}
		n.dst = append(n.dst, n.dst[m.begin:m.end]...)
	}
	n.dst = append(n.dst, '}')
}

// string rewrites a string with the escapes that it needs, so that equal keys
// are equal bytes.
func (n *normaliser) string() error {
	n.pos++
	n.dst = append(n.dst, '"')
	for {
		begin := n.pos
		for n.pos < len(n.text) && n.text[n.pos] != '"' && n.text[n.pos] != '\\' && n.text[n.pos] >= 0x20 {
			n.pos++
		}
		n.dst = appendEscaped(n.dst, n.text[begin:n.pos])
		if n.pos == len(n.text) || n.text[n.pos] < 0x20 {
			return n.unexpected()
		}
		if n.text[n.pos] == '"' {
			n.pos++
			n.dst = append(n.dst, '"')
			return nil
		}
		if err := n.escape(); err != nil {
			return err
		}
	}
}

func (n *normaliser) escape() error {
	if n.pos+1 >= len(n.text) {
		return n.unexpected()
	}
	b := n.text[n.pos+1]
	switch b {
	case 'b':
		b = '\b'
	case 'f':
		b = '\f'
	case 'n':
		b = '\n'
	case 'r':
		b = '\r'
	case 't':
		b = '\t'
	case '"', '\\', '/':
	case 'u':
		return n.unicode()
	default:
		return n.unexpected()
	}
	n.dst = appendEscaped(n.dst, []byte{b})
	n.pos += 2
	return nil
}

// unicode reads \uXXXX, or two of them for a rune beyond the first plane. Half
// a pair, which json stores and to_jsonb refuses, becomes U+FFFD.
func (n *normaliser) unicode() error {
	r, ok := hexRune(n.text[n.pos:])
	if !ok {
		return n.unexpected()
	}
	n.pos += len(`\uXXXX`)
	if utf16.IsSurrogate(r) {
		low, ok := hexRune(n.text[n.pos:])
		r = utf16.DecodeRune(r, low)
		if ok && r != utf8.RuneError {
			n.pos += len(`\uXXXX`)
		}
	}
	if r < utf8.RuneSelf {
		n.dst = appendEscaped(n.dst, []byte{byte(r)})
		return nil
	}
	n.dst = utf8.AppendRune(n.dst, r)
	return nil
}

// hexRune reads one \uXXXX.
func hexRune(text []byte) (rune, bool) {
	if len(text) < len(`\uXXXX`) || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	var r rune
	for _, b := range text[2:6] {
		switch {
		case b >= '0' && b <= '9':
			b -= '0'
		case b >= 'a' && b <= 'f':
			b -= 'a' - 10
		case b >= 'A' && b <= 'F':
			b -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(b)
	}
	return r, true
}
