package pgjson_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"newswire/cdc/pgjson"
)

// shapes has a type of every kind.
var shapes = func() []pgjson.Type {
	var all []pgjson.Type
	for _, oid := range []uint32{25, 16, 1700, 3802, 1114, 1184, 1009, 1231, 3807, 1020, 22, 30} {
		t, ok := pgjson.Builtin(oid)
		if !ok {
			panic("a type that every server has is missing")
		}
		all = append(all, t)
	}
	pair := pgjson.Type{OID: 90_000, Kind: pgjson.Composite, Fields: []pgjson.Field{
		{Name: `na"me`, Type: all[0]}, {Name: "n", Type: all[2]}, {Name: "list", Type: all[6]},
	}}
	return append(all, pair,
		pgjson.Type{OID: 90_001, Kind: pgjson.Array, Delim: ',', Elem: &pair},
		pgjson.Type{OID: 90_002, Kind: pgjson.Hstore})
}()

func builtin(t testing.TB, oid uint32) pgjson.Type {
	t.Helper()
	typ, ok := pgjson.Builtin(oid)
	if !ok {
		t.Fatalf("Builtin(%d) is not known", oid)
	}
	return typ
}

func TestTextOfAnotherShapeIsRefusedAndLeavesDstAlone(t *testing.T) {
	const prefix = `{"a":`
	deep := strings.Repeat("[", 20_000)
	for _, c := range []struct {
		typ   pgjson.Type
		texts []string
	}{
		{builtin(t, 16), []string{"", "true", "x"}},
		{builtin(t, 1700), []string{"", "-", "01", "1.", ".5", "1e", "1e+", "0x10", "nan", "1 ", "--1"}},
		{builtin(t, 114), []string{"", "{", "[1,]", `{"a"}`, `{"a":1,}`, `"`, `"\x"`, `"\u12"`, "tru", "truex", "1 2", "\"\n\"", "{1:2}", "\x00",
			deep, deep + strings.Repeat("]", len(deep))}},
		{builtin(t, 1009), []string{"", "{", "}", "{a", "{a,}", "{,a}", "{a}b", "{a}{b}", `{"a}`, `{"a\`, `{a"b}`, "a", "[0:1]", "{{a}", "{a{b}}",
			"{{{{{{{a}}}}}}}"}},
		{shapes[12], []string{"", "(", ")", "a", "(a,1)", "(a,1,{},x)", `("a,1,{})`, "(a,x,{})", "(a,1,{)", `(a,1,{}\)`}},
		{shapes[14], []string{"a", `"a"`, `"a"=>`, `"a"=>b`, `"a"=>"b"x`, `"a"=>"b", `, `"a`}},
		{builtin(t, 22), []string{"a", "1  2", " "}},
	} {
		for _, text := range c.texts {
			got, err := pgjson.Append([]byte(prefix), c.typ, []byte(text))
			if !errors.Is(err, pgjson.ErrShape) || string(got) != prefix {
				t.Errorf("type %d: Append(%.40q) = %.60s, %v; want ErrShape and nothing appended", c.typ.OID, text, got, err)
			}
		}
	}
}

func TestWhatNoServerShouldSendIsStillValid(t *testing.T) {
	for _, c := range []struct {
		oid        uint32
		text, want string
	}{
		{25, "caf\xe9 \xff\xfe", `"caf` + "\ufffd \ufffd\ufffd" + `"`}, // from a database with encoding SQL_ASCII
		{114, `"\ud83d \ude00 \ud83d\u0041"`, `"` + "\ufffd \ufffd \ufffdA" + `"`},
		{114, `"\u0000"`, `"\u0000"`},
		{114, "[1e400,-1e400,1e-401,-0e999]", "[1e400,-1e400,1e-401,0e999]"}, // a few bytes must not become many
		{114, "1e99999999999999999999", "1e99999999999999999999"},
		{1184, "now", `"now"`},
		{1184, "2026-11-23 09:41:07-03:30", `"2026-11-23T09:41:07-03:30"`},
	} {
		got, err := pgjson.Append(nil, builtin(t, c.oid), []byte(c.text))
		if err != nil || string(got) != c.want {
			t.Errorf("type %d: Append(%q) = %s, %v, want %s", c.oid, c.text, got, err, c.want)
		}
	}
}

func TestParseTextArrayGivesTags(t *testing.T) {
	null := "\x00" // stands for nil
	for text, want := range map[string][]string{
		"{}":                              {},
		"{tech}":                          {"tech"},
		`{tech,NULL,"NULL","a b",ai,""}`:  {"tech", null, "NULL", "a b", "ai", ""},
		`{"a\"b","c\\d","e,f","{g}"}`:     {`a"b`, `c\d`, "e,f", "{g}"},
		"{{a,b},{c,d}}":                   {"a", "b", "c", "d"},
		"[0:1]={x,y}":                     {"x", "y"},
		"[-1:-1][5:6]={{\" lead\",null}}": {" lead", null},
	} {
		elements, err := pgjson.ParseTextArray([]byte(text))
		if err != nil {
			t.Errorf("ParseTextArray(%q): %v", text, err)
			continue
		}
		var got []string
		for _, e := range elements {
			if e == nil {
				e = &null
			}
			got = append(got, *e)
		}
		if !slices.Equal(got, want) {
			t.Errorf("ParseTextArray(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestAppendOfPlainValuesAllocatesNothing(t *testing.T) {
	dst := make([]byte, 0, 4096)
	for oid, text := range map[uint32]string{
		20: "1234567890", 25: "a plain \"title\" with é", 701: "1.25", 1184: "2026-11-23 09:41:07.1+00", 3802: `[1, "a", true]`,
	} {
		typ, value := builtin(t, oid), []byte(text)
		if n := testing.AllocsPerRun(100, func() {
			if _, err := pgjson.Append(dst, typ, value); err != nil {
				t.Fatal(err)
			}
		}); n > 0 {
			t.Errorf("type %d: %v allocations, want 0", oid, n)
		}
	}
}

func FuzzAppend(f *testing.F) {
	for _, text := range []string{
		"", "t", "-1.5e-7", "NaN", `{"a":[1,{"a":2,"\u0061":3}]}`, `"\ud83d\ude00"`, "2026-11-23 09:41:07.1+00", "0044-03-15 12:00:00+00 BC",
		`{a,NULL,"b\"c"}`, "[0:1]={1,2}", "(1,1),(0,0);(2,2),(1,1)", `("a ""b"" \\",1,"{x,y}")`, `{"(a,1,)",NULL}`, `"a"=>"1", "b"=>NULL`, "1 2 3",
		"\xff\"+12\\", "x +\\\"", " +00\\u0000",
	} {
		for shape := range shapes {
			f.Add(uint8(shape), []byte(text))
		}
	}
	f.Fuzz(func(t *testing.T, shape uint8, text []byte) {
		typ := shapes[int(shape)%len(shapes)]
		given := string(text)
		got, err := pgjson.Append([]byte("["), typ, text)
		if string(text) != given {
			t.Fatalf("the text was changed: %q, was %q", text, given)
		}
		if err != nil {
			if !errors.Is(err, pgjson.ErrShape) || string(got) != "[" {
				t.Fatalf("Append(%q) = %s, %v, want ErrShape and nothing appended", text, got, err)
			}
			return
		}
		if got = append(got, ']'); !json.Valid(got) || !utf8.Valid(got) {
			t.Fatalf("Append(%q) = %q: invalid", text, got)
		}
	})
}

func FuzzParseTextArray(f *testing.F) {
	for _, text := range []string{"{}", "{a,NULL}", `{"a\"b",{c}}`, "[0:1]={1,2}", "{", `{"\`, "{{{}}}"} {
		f.Add([]byte(text))
	}
	textArray := builtin(f, 1009)
	f.Fuzz(func(t *testing.T, text []byte) {
		elements, err := pgjson.ParseTextArray(text)
		if err != nil {
			if elements != nil || !errors.Is(err, pgjson.ErrShape) {
				t.Fatalf("ParseTextArray(%q) = %v, %v, want ErrShape alone", text, elements, err)
			}
			return
		}
		if n := strings.Count(string(text), ","); len(elements) > n+1 {
			t.Fatalf("ParseTextArray(%q) gives %d elements of %d commas", text, len(elements), n)
		}
		if _, err := pgjson.Append(nil, textArray, text); err != nil && !strings.Contains(err.Error(), "dimensions") {
			t.Fatalf("Append refuses the array %q that ParseTextArray takes: %v", text, err)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	for name, c := range map[string]struct {
		oid  uint32
		text string
	}{
		"text":        {25, strings.Repeat("The quick brown fox. ", 50)},
		"timestamptz": {1184, "2026-11-23 09:41:07.1+00"},
		"textarray":   {1009, `{tech,ai,"two words"}`},
		"jsonb":       {3802, `{"a": 1, "b": [1, 2, 3], "c": {"d": "x"}}`},
	} {
		b.Run(name, func(b *testing.B) {
			typ, dst := builtin(b, c.oid), make([]byte, 0, 4096)
			b.SetBytes(int64(len(c.text)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := pgjson.Append(dst, typ, []byte(c.text)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
func TestRepeatedKeysAreDroppedAtEveryDepth(t *testing.T) {
	const depth = 8_000
	inner := `"` + strings.Repeat("x", 1<<16) + `"`
	text := strings.Repeat(`{"a":1,"b":2,"a":`, depth) + inner + strings.Repeat("}", depth)
	want := strings.Repeat(`{"b":2,"a":`, depth) + inner + strings.Repeat("}", depth)
	got, err := pgjson.Append(nil, builtin(t, 114), []byte(text))
	if err != nil || string(got) != want {
		t.Errorf("Append of %d repeats: %d bytes, %v, want %d", depth, len(got), err, len(want))
	}
}

func TestBytesAreEscapedWhereverTheyStand(t *testing.T) {
	typ, _ := pgjson.Builtin(25)
	for b := range 256 {
		for at := range 20 {
			for _, around := range []byte("a !#[]\x7f") {
				text := bytes.Repeat([]byte{around}, 20)
				text[at] = byte(b)
				out, err := pgjson.Append(nil, typ, text)
				if err != nil {
					t.Fatal(err)
				}
				var back string
				if err := json.Unmarshal(out, &back); err != nil || back != strings.ToValidUTF8(string(text), "\ufffd") {
					t.Errorf("%q became %s, %v", text, out, err)
				}
			}
		}
	}
}
