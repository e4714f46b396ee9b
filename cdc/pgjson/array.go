package pgjson

import (
	"bytes"
	"fmt"
)

// token is a piece of an array's text.
type token uint8

const (
	tokenOpen  token = iota // {
	tokenClose              // }
	tokenSep                // the delimiter
	tokenValue              // an element
	tokenNull               // NULL without quotes
	tokenEnd
)

// arrayScanner takes an array's text apart.
type arrayScanner struct {
	text    []byte
	pos     int
	delim   byte
	depth   int    // of braces open
	last    token  // before the present one; tokenEnd at the beginning
	value   []byte // of tokenValue: valid until the next call of next
	scratch []byte // for elements with escapes; reused
}

// scanArray leaves out bounds other than 1, as in [0:2]={1,2,3}: JSON has none.
func scanArray(text []byte, delim byte) (arrayScanner, error) {
	if len(text) > 0 && text[0] == '[' {
		i := bytes.IndexByte(text, '=')
		if i < 0 {
			return arrayScanner{}, fmt.Errorf("%w: an array's bounds end with =", ErrShape)
		}
		text = text[i+1:]
	}
	return arrayScanner{text: text, delim: delim, last: tokenEnd}, nil
}

// next gives the next token, and an error if it may not stand there.
func (s *arrayScanner) next() (token, error) {
	if s.pos == len(s.text) {
		if s.depth > 0 || s.last != tokenClose {
			return tokenEnd, fmt.Errorf("%w: the array does not end", ErrShape)
		}
		return tokenEnd, nil
	}
	begin := s.pos
	t, err := s.scan()
	if err != nil {
		return t, err
	}
	if !s.fits(t) {
		return t, fmt.Errorf("%w: no array element at byte %d", ErrShape, begin)
	}
	switch t {
	case tokenOpen:
		s.depth++
	case tokenClose:
		s.depth--
	}
	s.last = t
	return t, nil
}

// fits tells whether t may follow the last token.
func (s *arrayScanner) fits(t token) bool {
	begins := s.last == tokenOpen || s.last == tokenSep
	switch t {
	case tokenOpen:
		return begins || s.last == tokenEnd
	case tokenValue, tokenNull:
		return begins
	case tokenClose:
		return s.depth > 0 && s.last != tokenSep
	default:
		return s.depth > 0 && !begins
	}
}

func (s *arrayScanner) scan() (token, error) {
	switch b := s.text[s.pos]; b {
	case '{':
		s.pos++
		return tokenOpen, nil
	case '}':
		s.pos++
		return tokenClose, nil
	case s.delim:
		s.pos++
		return tokenSep, nil
	case '"':
		return tokenValue, s.quoted()
	}
	begin := s.pos
	for s.pos < len(s.text) && s.text[s.pos] != s.delim && s.text[s.pos] != '}' {
		if b := s.text[s.pos]; b == '{' || b == '"' || b == '\\' {
			return tokenValue, fmt.Errorf("%w: byte %d of an array is to be quoted", ErrShape, s.pos)
		}
		s.pos++
	}
	s.value = s.text[begin:s.pos]
	if bytes.EqualFold(s.value, []byte("NULL")) {
		return tokenNull, nil // the string is quoted
	}
	return tokenValue, nil
}

// quoted reads an element between quotes, in place if nothing is escaped.
func (s *arrayScanner) quoted() error {
	s.pos++
	begin := s.pos
	escaped := false
	for ; s.pos < len(s.text); s.pos++ {
		switch s.text[s.pos] {
		case '\\':
			if !escaped {
				escaped = true
				s.scratch = append(s.scratch[:0], s.text[begin:s.pos]...)
			}
			s.pos++
			if s.pos == len(s.text) {
				return fmt.Errorf("%w: the array ends in an escape", ErrShape)
			}
			s.scratch = append(s.scratch, s.text[s.pos])
			continue
		case '"':
			s.value = s.text[begin:s.pos]
			if escaped {
				s.value = s.scratch
			}
			s.pos++
			return nil
		}
		if escaped {
			s.scratch = append(s.scratch, s.text[s.pos])
		}
	}
	return fmt.Errorf("%w: the array ends in a quoted element", ErrShape)
}

// dimensions is how many an array may have in PostgreSQL (its MAXDIM).
const dimensions = 6

func appendArray(dst []byte, t *Type, text []byte) ([]byte, error) {
	s, err := scanArray(text, t.Delim)
	if err != nil {
		return dst, err
	}
	for {
		tok, err := s.next()
		if err != nil {
			return dst, err
		}
		switch tok {
		case tokenEnd:
			return dst, nil
		case tokenOpen:
			if s.depth > dimensions {
				return dst, fmt.Errorf("%w: an array of more than %d dimensions", ErrShape, dimensions)
			}
			dst = append(dst, '[')
		case tokenClose:
			dst = append(dst, ']')
		case tokenSep:
			dst = append(dst, ',')
		case tokenNull:
			dst = append(dst, "null"...)
		case tokenValue:
			if dst, err = appendValue(dst, t.Elem, s.value); err != nil {
				return dst, err
			}
		}
	}
}

// ParseTextArray reads the text of a text[] (or of any array with commas): its
// elements in order, those of several dimensions one after the other, nil for
// NULL.
func ParseTextArray(text []byte) ([]*string, error) {
	s, err := scanArray(text, ',')
	if err != nil {
		return nil, fmt.Errorf("parse array: %w", err)
	}
	elements := []*string{}
	for {
		tok, err := s.next()
		if err != nil {
			return nil, fmt.Errorf("parse array: %w", err)
		}
		switch tok {
		case tokenEnd:
			return elements, nil
		case tokenNull:
			elements = append(elements, nil)
		case tokenValue:
			element := string(s.value)
			elements = append(elements, &element)
		}
	}
}
