package pgjson

import (
	"errors"
	"fmt"
)

// ErrShape reports text that a type of this shape does not have: another type's,
// or that of a composite type which has changed since it was loaded.
var ErrShape = errors.New("text does not fit the type")

// Append appends the JSON of one value to dst. A nil text is NULL. On an error,
// which wraps ErrShape, dst is given back as it was. The text is not kept and
// not changed.
func Append(dst []byte, t Type, text []byte) ([]byte, error) {
	out, err := appendValue(dst, &t, text)
	if err != nil {
		return dst, fmt.Errorf("convert a value of type %d to JSON: %w", t.OID, err)
	}
	return out, nil
}

func appendValue(dst []byte, t *Type, text []byte) ([]byte, error) {
	if text == nil {
		return append(dst, "null"...), nil
	}
	switch t.Kind {
	case Bool:
		return appendBool(dst, text)
	case Number:
		return appendColumnNumber(dst, text)
	case JSON:
		return appendJSON(dst, text)
	case Timestamp:
		return appendTimestamp(dst, text), nil
	case TimestampTZ:
		return appendTimestampTZ(dst, text), nil
	case Array:
		return appendArray(dst, t, text)
	case Vector:
		return appendVector(dst, t, text)
	case Composite:
		return appendComposite(dst, t, text)
	case Hstore:
		return appendHstore(dst, text)
	default:
		return appendString(dst, text), nil
	}
}

func appendBool(dst, text []byte) ([]byte, error) {
	if len(text) == 1 && text[0] == 't' {
		return append(dst, "true"...), nil
	}
	if len(text) == 1 && text[0] == 'f' {
		return append(dst, "false"...), nil
	}
	return dst, fmt.Errorf("%w: a bool is t or f", ErrShape)
}

// appendTimestamp sets the T; "infinity" has no space to set it in.
func appendTimestamp(dst, text []byte) []byte {
	start := len(dst)
	dst = appendString(dst, text)
	setT(dst[start:])
	return dst
}

func setT(s []byte) int {
	for i, b := range s {
		if b == ' ' {
			s[i] = 'T'
			return i
		}
	}
	return len(s)
}

// appendTimestampTZ also writes the offset's minutes, which PostgreSQL's ISO
// style leaves out when they are 0 and its XSD style does not.
func appendTimestampTZ(dst, text []byte) []byte {
	start := len(dst)
	dst = appendString(dst, text)
	s := dst[start:]
	for i := setT(s); i < len(s); i++ {
		if s[i] != '+' && s[i] != '-' {
			continue
		}
		end := i + len("+00")
		if end < len(s) && len(leadingDigits(s[i+1:end])) == 2 && s[end] != ':' {
			dst = append(dst, ":00"...)
			s = dst[start:]
			copy(s[end+len(":00"):], s[end:])
			copy(s[end:], ":00")
		}
		break
	}
	return dst
}

// appendVector reads numbers between single spaces.
func appendVector(dst []byte, t *Type, text []byte) ([]byte, error) {
	dst = append(dst, '[')
	for begin, i := 0, 0; len(text) > 0 && i <= len(text); i++ {
		if i < len(text) && text[i] != ' ' {
			continue
		}
		if begin > 0 {
			dst = append(dst, ',')
		}
		var err error
		if dst, err = appendValue(dst, t.Elem, text[begin:i]); err != nil {
			return dst, err
		}
		begin = i + 1
	}
	return append(dst, ']'), nil
}
