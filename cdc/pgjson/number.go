package pgjson

import "fmt"

// longest is how many digits a number may have and still be written without
// its exponent, as jsonb writes all of them. It covers every float8; only a
// json column holds more, and there a few bytes could ask for megabytes.
const longest = 400

// appendColumnNumber takes what integers, numeric and floats look like.
func appendColumnNumber(dst, text []byte) ([]byte, error) {
	switch string(text) {
	case "NaN", "Infinity", "-Infinity":
		return appendString(dst, text), nil
	}
	dst, n, err := appendNumber(dst, text)
	if err == nil && n != len(text) {
		err = fmt.Errorf("%w: a number does not end where its digits do", ErrShape)
	}
	return dst, err
}

// number is the anatomy of a JSON number: its parts are pieces of the text.
type number struct {
	negative      bool
	whole, frac   []byte // digits
	exponent      int
	hasExponent   bool
	exponentIsBig bool // beyond what int arithmetic here is for
}

// appendNumber appends the number that text begins with as jsonb prints it:
// numeric's digits, no exponent, no negative zero. n is its length in text.
func appendNumber(dst, text []byte) (out []byte, n int, err error) {
	num, n, ok := scanNumber(text)
	if !ok {
		return dst, 0, fmt.Errorf("%w: no number", ErrShape)
	}
	if num.negative && !isZero(num) {
		dst = append(dst, '-')
	}
	if !num.hasExponent {
		dst = append(dst, num.whole...)
		if len(num.frac) > 0 {
			dst = append(dst, '.')
			dst = append(dst, num.frac...)
		}
		return dst, n, nil
	}
	if num.exponentIsBig || len(num.whole)+len(num.frac)+max(num.exponent, -num.exponent) > longest {
		begin := 0
		if num.negative {
			begin = 1 // written above
		}
		return append(dst, text[begin:n]...), n, nil
	}
	return appendExpanded(dst, num), n, nil
}

// appendExpanded moves the point by the exponent.
func appendExpanded(dst []byte, num number) []byte {
	point := len(num.whole) + num.exponent // stands in front of this digit
	digits := make([]byte, 0, longest+2)
	for range 1 - point {
		digits = append(digits, '0')
	}
	digits = append(append(digits, num.whole...), num.frac...)
	point = max(point, 1)
	for len(digits) < point {
		digits = append(digits, '0')
	}
	whole, frac := digits[:point], digits[point:]
	for len(whole) > 1 && whole[0] == '0' {
		whole = whole[1:]
	}
	dst = append(dst, whole...)
	if len(frac) > 0 {
		dst = append(dst, '.')
		dst = append(dst, frac...)
	}
	return dst
}

// scanNumber takes apart the JSON number that text begins with.
func scanNumber(text []byte) (num number, n int, ok bool) {
	if n < len(text) && text[n] == '-' {
		num.negative = true
		n++
	}
	num.whole = leadingDigits(text[n:])
	n += len(num.whole)
	if len(num.whole) == 0 || len(num.whole) > 1 && num.whole[0] == '0' {
		return num, 0, false
	}
	if n < len(text) && text[n] == '.' {
		num.frac = leadingDigits(text[n+1:])
		if len(num.frac) == 0 {
			return num, 0, false
		}
		n += 1 + len(num.frac)
	}
	if n == len(text) || text[n] != 'e' && text[n] != 'E' {
		return num, n, true
	}
	n++
	minus := n < len(text) && text[n] == '-'
	if minus || n < len(text) && text[n] == '+' {
		n++
	}
	digits := leadingDigits(text[n:])
	for _, d := range digits {
		num.exponent = num.exponent*10 + int(d-'0')
		if num.exponent > longest {
			num.exponentIsBig = true
			num.exponent = longest
		}
	}
	if minus {
		num.exponent = -num.exponent
	}
	num.hasExponent = true
	return num, n + len(digits), len(digits) > 0
}

func leadingDigits(text []byte) []byte {
	n := 0
	for n < len(text) && text[n] >= '0' && text[n] <= '9' {
		n++
	}
	return text[:n]
}

func isZero(num number) bool {
	for _, part := range [][]byte{num.whole, num.frac} {
		for _, d := range part {
			if d != '0' {
				return false
			}
		}
	}
	return true
}
