package pgjson

import (
	"bytes"
	"fmt"
)

// appendComposite reads (1,"two words",,"") into an object of the fields: what
// is empty without quotes is NULL.
func appendComposite(dst []byte, t *Type, text []byte) ([]byte, error) {
	if len(text) < 2 || text[0] != '(' || text[len(text)-1] != ')' {
		return dst, fmt.Errorf("%w: a composite value stands in parentheses", ErrShape)
	}
	rest := text[1 : len(text)-1]
	dst = append(dst, '{')
	var scratch []byte
	for i := range t.Fields {
		field := &t.Fields[i]
		if i > 0 {
			if len(rest) == 0 || rest[0] != ',' {
				return dst, fmt.Errorf("%w: %d fields where the type has %d", ErrShape, i, len(t.Fields))
			}
			rest = rest[1:]
			dst = append(dst, ',')
		}
		value, n, err := scanField(rest, scratch[:0])
		if err != nil {
			return dst, err
		}
		rest, scratch = rest[n:], value
		dst = append(appendString(dst, []byte(field.Name)), ':')
		if n == 0 {
			value = nil
		}
		if dst, err = appendValue(dst, &field.Type, value); err != nil {
			return dst, fmt.Errorf("field %s: %w", field.Name, err)
		}
	}
	if len(rest) > 0 {
		return dst, fmt.Errorf("%w: more fields than the %d of the type", ErrShape, len(t.Fields))
	}
	return append(dst, '}'), nil
}

// scanField gives the field's text in scratch, which is not nil then, and its
// length as it stands in text: 0 for NULL. Within quotes both "" and \ escape.
func scanField(text, scratch []byte) (value []byte, n int, err error) {
	if scratch == nil {
		scratch = []byte{}
	}
	quoted := false
	for ; n < len(text); n++ {
		b := text[n]
		switch {
		case b == ',' && !quoted:
			return scratch, n, nil
		case b == '\\':
			if n++; n == len(text) {
				return scratch, n, fmt.Errorf("%w: a composite value ends in an escape", ErrShape)
			}
			b = text[n]
		case b == '"' && quoted && n+1 < len(text) && text[n+1] == '"':
			n++
		case b == '"':
			quoted = !quoted
			continue
		}
		scratch = append(scratch, b)
	}
	if quoted {
		return scratch, n, fmt.Errorf("%w: a composite value ends in a quoted field", ErrShape)
	}
	return scratch, n, nil
}

// appendHstore reads "a"=>"1", "b"=>NULL.
func appendHstore(dst, text []byte) ([]byte, error) {
	dst = append(dst, '{')
	var err error
	for first := true; len(text) > 0; first = false {
		if !first {
			if text, err = skip(text, ", "); err != nil {
				return dst, err
			}
			dst = append(dst, ',')
		}
		if dst, text, err = appendHstoreString(dst, text); err != nil {
			return dst, err
		}
		if text, err = skip(text, "=>"); err != nil {
			return dst, err
		}
		dst = append(dst, ':')
		if rest, ok := bytes.CutPrefix(text, []byte("NULL")); ok {
			dst, text = append(dst, "null"...), rest
			continue
		}
		if dst, text, err = appendHstoreString(dst, text); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}

func skip(text []byte, what string) ([]byte, error) {
	rest, ok := bytes.CutPrefix(text, []byte(what))
	if !ok {
		return text, fmt.Errorf("%w: an hstore without %q", ErrShape, what)
	}
	return rest, nil
}

// appendHstoreString gives also what is left of text.
func appendHstoreString(dst, text []byte) (out, rest []byte, err error) {
	s := arrayScanner{text: text} // quotes as in arrays
	if len(text) == 0 || text[0] != '"' {
		return dst, text, fmt.Errorf("%w: an hstore without quotes", ErrShape)
	}
	if err := s.quoted(); err != nil {
		return dst, text, err
	}
	return appendString(dst, s.value), text[s.pos:], nil
}
