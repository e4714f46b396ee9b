// Package pgjson turns the text in which PostgreSQL sends a column's value into
// the JSON that its own to_jsonb(row) prints for it with TimeZone UTC.
//
// It promises JSON that is equal to PostgreSQL's: the same members, strings and
// digits; spaces and the order of members may differ. The session that sends
// the text must have the settings in Settings. What Append gives is always
// valid JSON in valid UTF-8, whatever the text.
package pgjson

// Settings are those of the session that sends the text: with others, the text
// itself is another one.
var Settings = map[string]string{
	"TimeZone":           "UTC",
	"DateStyle":          "ISO, MDY",
	"IntervalStyle":      "postgres",
	"extra_float_digits": "1",
	"bytea_output":       "hex",
	"client_encoding":    "UTF8",
}

// Kind says how a type's text becomes JSON.
type Kind uint8

// The zero Kind suits every type that to_jsonb has no rule for.
const (
	Text        Kind = iota // a string of the text as it is: also dates, times, enums, addresses, ranges
	Bool                    // t and f
	Number                  // digits, or NaN and the infinities, which become strings
	JSON                    // json and jsonb
	Timestamp               // a string with T between date and time
	TimestampTZ             // likewise, the offset with its minutes
	Array                   // of Elem, split at Delim
	Vector                  // of Elem, split at spaces: int2vector and oidvector
	Composite               // an object of Fields
	Hstore                  // an object of strings
)

// Type is a column's type with all that is needed to read its text. Domains are
// resolved: a Type is that of their base.
type Type struct {
	OID    uint32 // as asked for, so of the domain for a domain
	Kind   Kind
	Delim  byte    // between the elements of an Array
	Elem   *Type   // of an Array or Vector
	Fields []Field // of a Composite, in order, without dropped ones
}

// Field is one attribute of a composite type.
type Field struct {
	Name string
	Type Type
}

// Builtin gives the types that every server has under the same OID, without
// asking it. Those that it does not know may still be built in: Load knows them.
func Builtin(oid uint32) (Type, bool) {
	t, ok := builtin[oid]
	return t, ok
}

// scalar is a built-in type and the type of its arrays.
type scalar struct {
	oid, array uint32
	kind       Kind
}

var scalars = []scalar{
	{16, 1000, Bool},          // bool
	{17, 1001, Text},          // bytea
	{18, 1002, Text},          // "char"
	{19, 1003, Text},          // name
	{20, 1016, Number},        // int8
	{21, 1005, Number},        // int2
	{23, 1007, Number},        // int4
	{25, 1009, Text},          // text
	{26, 1028, Text},          // oid, which to_jsonb prints as a string
	{114, 199, JSON},          // json
	{142, 143, Text},          // xml
	{600, 1017, Text},         // point
	{601, 1018, Text},         // lseg
	{602, 1019, Text},         // path
	{603, 1020, Text},         // box
	{604, 1027, Text},         // polygon
	{628, 629, Text},          // line
	{650, 651, Text},          // cidr
	{700, 1021, Number},       // float4
	{701, 1022, Number},       // float8
	{718, 719, Text},          // circle
	{774, 775, Text},          // macaddr8
	{790, 791, Text},          // money
	{829, 1040, Text},         // macaddr
	{869, 1041, Text},         // inet
	{1042, 1014, Text},        // bpchar
	{1043, 1015, Text},        // varchar
	{1082, 1182, Text},        // date
	{1083, 1183, Text},        // time
	{1114, 1115, Timestamp},   // timestamp
	{1184, 1185, TimestampTZ}, // timestamptz
	{1186, 1187, Text},        // interval
	{1266, 1270, Text},        // timetz
	{1560, 1561, Text},        // bit
	{1562, 1563, Text},        // varbit
	{1700, 1231, Number},      // numeric
	{2950, 2951, Text},        // uuid
	{3220, 3221, Text},        // pg_lsn
	{3614, 3643, Text},        // tsvector
	{3615, 3645, Text},        // tsquery
	{3802, 3807, JSON},        // jsonb
	{3904, 3905, Text},        // int4range
	{3906, 3907, Text},        // numrange
	{3908, 3909, Text},        // tsrange
	{3910, 3911, Text},        // tstzrange
	{3912, 3913, Text},        // daterange
	{3926, 3927, Text},        // int8range
}

const (
	boxOID        = 603
	int2OID       = 21
	int2vectorOID = 22
	oidOID        = 26
	oidvectorOID  = 30
)

// builtin is fixed by its initialisation.
var builtin = func() map[uint32]Type {
	types := make(map[uint32]Type, 2*len(scalars)+2)
	for _, s := range scalars {
		elem := Type{OID: s.oid, Kind: s.kind}
		delim := byte(',')
		if s.oid == boxOID { // the one type whose text has commas of its own outside brackets
			delim = ';'
		}
		types[s.oid] = elem
		types[s.array] = Type{OID: s.array, Kind: Array, Delim: delim, Elem: &elem}
	}
	types[int2vectorOID] = Type{OID: int2vectorOID, Kind: Vector, Elem: &Type{OID: int2OID, Kind: Number}}
	types[oidvectorOID] = Type{OID: oidvectorOID, Kind: Vector, Elem: &Type{OID: oidOID}}
	return types
}()
