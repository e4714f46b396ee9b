package journal

import "encoding/binary"

// Decoder reads the fields of a record off Rest. Once something does not fit,
// Bad stays set and every further field is zero. The packages that keep records
// of their own in the database use it too.
type Decoder struct {
	Rest []byte
	Bad  bool
}

// Whole tells that everything fitted and nothing is left.
func (r *Decoder) Whole() bool { return !r.Bad && len(r.Rest) == 0 }

// Take reads n bytes, which still belong to the record.
func (r *Decoder) Take(n int) []byte {
	if r.Bad || n < 0 || n > len(r.Rest) {
		r.Bad = true
		return nil
	}
	field := r.Rest[:n]
	r.Rest = r.Rest[n:]
	return field
}

// Byte reads one byte.
func (r *Decoder) Byte() byte {
	if b := r.Take(1); b != nil {
		return b[0]
	}
	return 0
}

// Uvarint reads an unsigned number as encoding/binary writes it.
func (r *Decoder) Uvarint() uint64 {
	v, n := binary.Uvarint(r.Rest)
	if n <= 0 {
		r.Bad = true
		return 0
	}
	r.Take(n)
	return v
}

// Varint reads a number as encoding/binary writes it.
func (r *Decoder) Varint() int64 {
	v, n := binary.Varint(r.Rest)
	if n <= 0 {
		r.Bad = true
		return 0
	}
	r.Take(n)
	return v
}

// length reads a count of things that take at least one byte each, so that
// damaged bytes cannot ask for more memory than they fill.
func (r *Decoder) length() int {
	n := r.Uvarint()
	if n > uint64(len(r.Rest)) {
		r.Bad = true
		return 0
	}
	return int(n)
}

// Bytes reads a length and so many bytes, which still belong to the record.
func (r *Decoder) Bytes() []byte { return r.Take(r.length()) }

// Strings reads a count and so many strings.
func (r *Decoder) Strings() []string {
	n := r.length()
	if n == 0 {
		return nil
	}
	list := make([]string, 0, n)
	for range n {
		list = append(list, string(r.Bytes()))
	}
	return list
}
