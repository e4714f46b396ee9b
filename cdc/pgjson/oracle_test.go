package pgjson_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"newswire/cdc/pgjson"
	"newswire/cdc/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const types = `
CREATE EXTENSION hstore;
CREATE EXTENSION citext;
CREATE TYPE mood AS ENUM ('sad', 'so so', 'happy, "really"');
CREATE DOMAIN slug AS text CHECK (VALUE <> 'never');
CREATE DOMAIN shortslug AS slug CHECK (length(VALUE) < 1000);
CREATE DOMAIN price AS numeric(12, 2);
CREATE DOMAIN labels AS text[];
CREATE TYPE author AS (name text, "born on" date, "says ""hi""" bool, scores float8[], note jsonb);
CREATE TYPE byline AS (lead author, others author[], seen timestamptz);
CREATE DOMAIN adult AS author;
CREATE TYPE pricerange AS RANGE (subtype = numeric);
`

// open makes a database with the types above and a connection with the
// settings that a listener must set.
func open(t testing.TB, more string) (*pgtest.DB, *pgx.Conn) {
	t.Helper()
	db := pgtest.New(t, pgtest.WithPublication(""), pgtest.WithSchema(types+more))
	conn := db.Connect()
	for name, value := range pgjson.Settings {
		if _, err := conn.Exec(t.Context(), "SELECT set_config($1, $2, false)", name, value); err != nil {
			t.Fatal(err)
		}
	}
	return db, conn
}

// check compares what Append makes of every row and column with to_jsonb. The
// simple protocol's text is what type output functions print: pgoutput's text.
func check(t *testing.T, conn *pgx.Conn, query string) (rows int) {
	t.Helper()
	result, err := conn.Query(t.Context(), "SELECT to_jsonb(q), q.* FROM ("+query+") q", pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		t.Fatal(err)
	}
	type row struct{ values [][]byte }
	fields := slices.Clone(result.FieldDescriptions()) // not known before the first row in this mode
	var all []row
	for result.Next() {
		fields = slices.Clone(result.FieldDescriptions())
		var r row
		for _, raw := range result.RawValues() {
			r.values = append(r.values, bytes.Clone(raw))
		}
		all = append(all, r)
	}
	if err := result.Err(); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	var oids []uint32
	for _, f := range fields {
		oids = append(oids, f.DataTypeOID)
	}
	// The row description names a domain's base type where pgoutput names the
	// domain; TestLoadResolvesTypes covers that.
	loaded, err := pgjson.Load(t.Context(), conn, oids)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		want := decode(t, r.values[0]).(map[string]any)
		for i, f := range fields[1:] {
			text := r.values[i+1]
			got, err := pgjson.Append(nil, loaded[f.DataTypeOID], text)
			if err != nil {
				t.Errorf("%s: Append(%q): %v", f.Name, text, err)
				continue
			}
			if diff := cmp.Diff(want[f.Name], decode(t, got)); diff != "" {
				t.Errorf("%s: %q became %s (-to_jsonb +Append):\n%s", f.Name, text, got, diff)
			}
		}
	}
	return len(all)
}

// decode keeps the digits of numbers.
func decode(t testing.TB, text []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("decode %q: %v", text, err)
	}
	if d.More() {
		t.Fatalf("decode %q: more than one value", text)
	}
	return v
}

func TestEdgesAreAsPostgreSQLPrintsThem(t *testing.T) {
	t.Parallel()
	_, conn := open(t, "")
	for typ, values := range map[string][]string{
		"bool":   {"t", "f"},
		"int2":   {"-32768", "0", "32767"},
		"int8":   {"-9223372036854775808", "9223372036854775807"},
		"float4": {"0", "-0", "1e-7", "1.5", "3.4028235e38", "1e-45", "NaN", "Infinity", "-Infinity", "1e6", "1e15", "0.0001"},
		"float8": {"-0", "1e20", "-1.5e-10", "5e-324", "1.7976931348623157e308", "-1.7976931348623157e+308", "123456789.123456789", "NaN", "Infinity", "-Infinity", "0.1"},
		"numeric": {"0", "0.00", "-0.00", "1.500", "123456789012345678901234567890.123456789", "NaN", "Infinity", "-Infinity",
			"1e-30", "1e50", "-12.340"},
		"text":    {"", " ", "null", "NULL", `"`, `\`, "a\nb\tc\rd\be\ff", "\x01\x1f\x7f", "\u2028\u2029", "日本語 🗞", "</script>", `\u0041`, "NaN"},
		"varchar": {"", "x y"},
		"char(5)": {"", "ab", "ä"},
		`"char"`:  {"a", "", `\200`},
		"name":    {"some_name"},
		"citext":  {"MiXed"},
		"uuid":    {"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"},
		"date":    {"2026-11-23", "0044-03-15 BC", "infinity", "-infinity", "12345-06-07"},
		"time":    {"09:41:07.1", "24:00:00", "00:00:00.000001"},
		"timetz":  {"09:41:07.1+02", "09:41:07-03:30", "09:41:07+01:22:12"},
		"timestamp": {"2026-11-23 09:41:07.1", "2026-11-23 00:00:00", "0044-03-15 12:00:00.5 BC", "infinity", "-infinity",
			"12345-06-07 08:09:10.000001"},
		"timestamptz": {"2026-11-23 09:41:07.1+02", "2026-11-23 00:00:00+00", "0044-03-15 12:00:00.5+00 BC", "infinity", "-infinity",
			"294276-12-31 23:59:59.999999+00"},
		"interval": {"1 year 2 mons -3 days +04:05:06.789", "0", "-00:00:01", "100 years"},
		"bytea":    {`\x`, `\x00ff10`, "abc"},
		"json": {"null", "1e2", "1.50e1", "-0", "-0.00", "0e5", "0e-3", "1.0", "12e-1", "123.456e-5", "0.001e3", "true", `"a\/b\u00e9\ud83d\ude00\"\\"`,
			`{"a":1,"b":{"c":[1,2,{"a":null}]},"a":2}`, `{"\u0061":1, "b" : 2 ,"a" :3}`, "[]", "{}", ` [ 1 , "x" ] `, `"\u001f\n"`,
			`{"k1":1,"k2":1,"k3":1,"k4":1,"k5":1,"k6":1,"k7":1,"k8":1,"k9":1,"k10":1,"k11":1,"k12":1,"k13":1,"k1":{"x":1,"x":[2]},"k7":9}`},
		"jsonb":      {"null", "1e2", `{"b":[1,{"x":"\u2028"}],"a":{}}`, `"\\"`, "1.10"},
		"inet":       {"192.168.0.1", "10.0.0.0/8", "::1", "2001:db8::/32"},
		"cidr":       {"10.0.0.0/8", "2001:db8::/32"},
		"macaddr":    {"08:00:2b:01:02:03"},
		"macaddr8":   {"08:00:2b:01:02:03:04:05"},
		"mood":       {"sad", "so so", `happy, "really"`},
		"slug":       {"a-b", ""},
		"shortslug":  {"a-b"},
		"price":      {"1.5", "-0.01"},
		"money":      {"12.50"},
		"oid":        {"42"},
		"xml":        {"<a>b</a>"},
		"bit(4)":     {"1010"},
		"pg_lsn":     {"16/B374D848"},
		"point":      {"(1,2.5)"},
		"box":        {"(1,1),(0,0)"},
		"tsvector":   {"'a':1 'b''c':2"},
		"int4range":  {"[1,5)", "empty"},
		"daterange":  {"[2026-01-01,2026-02-01)"},
		"pricerange": {"[1.0,2.5]"},
		"regclass":   {"pg_class"},
		"int2vector": {"1 2 3", ""},
		"oidvector":  {"1 2 3", ""},
		"hstore":     {"", `a=>1`, `"a b"=>"x\"y\\z, =>", n=>NULL, s=>"NULL", e=>""`},
		"text[]": {"{}", `{a,NULL,"NULL","null","","a b","a,b","a\"b","a\\b","{}",日本}`, `{{a,b},{c,NULL}}`, `[0:1]={x,y}`,
			`[-1:0][2:3]={{1,2},{3,4}}`, `{{{{{{deep}}}}}}`, "{\"a\nb\",\"\t\"}"},
		"bool[]":        {"{t,f,NULL}"},
		"int4[]":        {"{1,-2,NULL}", "{{1},{2}}"},
		"float8[]":      {"{1e20,NaN,-Infinity,-0}"},
		"numeric[]":     {"{1.50,NaN}"},
		"timestamp[]":   {`{"2026-11-23 09:41:07.1",infinity,NULL}`},
		"timestamptz[]": {`{"2026-11-23 09:41:07.1+02","0044-03-15 12:00:00+00 BC",infinity}`},
		"json[]":        {`{"{\"a\":1,\"a\":[1e1,\"x\\\\\\\"y\"]}",null,"null"}`},
		"jsonb[]":       {`{"{\"a\":1}","\"null\"",NULL}`},
		"mood[]":        {`{sad,"so so","happy, \"really\""}`},
		"slug[]":        {`{a-b,NULL}`},
		"labels":        {`{a,"b c"}`},
		"price[]":       {"{1.00,NULL}"},
		"bytea[]":       {`{"\\x00ff"}`},
		"box[]":         {"{(1,1),(0,0);(2,2),(1,1)}"},
		"interval[]":    {`{"1 day"}`},
		"inet[]":        {"{10.0.0.1,::1}"},
		"hstore[]":      {`{"a=>1","b=>NULL"}`},
		"citext[]":      {"{A,b}"},
		"author":        {`(,,,,)`, `("A, ""B"" \\ (c)",1970-01-01,t,"{1,NaN,NULL}","{""x"": [""\\""""]}")`, `("",,f,{},null)`},
		"adult":         {`(a,,,,)`},
		"byline": {`("(a,,,,)","{""(\\""b c\\"",,,,)"",NULL}","2026-11-23 09:41:07.1+00")`,
			`(,,)`},
		"author[]": {`{"(a,,,,)",NULL,"(\"x y\",,t,\"{1,2}\",)"}`},
	} {
		values = append(slices.Clone(values), "\x00NULL")
		var rows []string
		for _, v := range values {
			if v == "\x00NULL" {
				rows = append(rows, "SELECT NULL::"+typ+" AS v")
				continue
			}
			rows = append(rows, "SELECT '"+strings.ReplaceAll(v, "'", "''")+"'::"+typ+" AS v")
		}
		t.Run(typ, func(t *testing.T) { check(t, conn, strings.Join(rows, " UNION ALL ")) })
	}
}

// columns of the random rows: a type, and SQL that makes a value of it from
// random() alone, so that a seed makes the same rows again.
var columns = map[string]string{
	"bool":          `random() < 0.5`,
	"int2":          `(random() * 65535 - 32768)::int2`,
	"int4":          `(random() * 4e9 - 2e9)::int4`,
	"int8":          `(random() * 1.8e19 - 9e18)::int8`,
	"float4":        `((random() - 0.5) * 10 ^ (random() * 70 - 35))::float4`,
	"float8":        `(random() - 0.5) * 10 ^ (random() * 600 - 300)`,
	"numeric":       `round(((random() - 0.5) * 10 ^ (random() * 30))::numeric, (random() * 20)::int)`,
	"text":          `junk()`,
	"char(20)":      `left(junk(), 20)`,
	"uuid":          `md5(random()::text)::uuid`,
	"date":          `'2000-01-01'::date + ((random() - 0.5) * 2e6)::int`,
	"time":          `'00:00'::time + random() * '1 day'::interval`,
	"timetz":        `('00:00'::time + random() * '1 day'::interval)::time::text::timetz`,
	"timestamp":     `'2000-01-01'::timestamp + (random() - 0.6) * '9000 years'::interval`,
	"timestamptz":   `'2000-01-01'::timestamptz + (random() - 0.6) * '9000 years'::interval`,
	"interval":      `(random() - 0.5) * '9000 years 3 months 17 days'::interval`,
	"bytea":         `decode(md5(random()::text), 'hex')`,
	"json":          `json_build_object(junk(), junk(), 'a', random(), 'a', array[junk(), NULL], 'n', (random() - 0.5) * 10 ^ (random() * 40 - 20))`,
	"jsonb":         `jsonb_build_object(junk(), junk(), junk(), jsonb_build_array(junk(), random(), jsonb_build_object(junk(), 1e-5)))`,
	"inet":          `'10.0.0.0'::inet + (random() * 1e7)::int8`,
	"mood":          `(array['sad', 'so so', 'happy, "really"'])[1 + (random() * 2)::int]::mood`,
	"slug":          `junk()`,
	"price":         `((random() - 0.5) * 1e9)::numeric(12, 2)`,
	"text[]":        `array[junk(), NULL, junk(), '']`,
	"float8[]":      `array[[random(), 1e30 * random()], ['NaN'::float8, NULL]]`,
	"timestamptz[]": `array['epoch'::timestamptz + random() * '90 years'::interval, NULL]`,
	"jsonb[]":       `array[to_jsonb(junk()), jsonb_build_object(junk(), junk()), NULL]`,
	"author":        `(junk(), 'epoch'::date + (random() * 2e4)::int, random() < 0.5, array[random()], jsonb_build_object(junk(), junk()))::author`,
	"author[]":      `array[(junk(), NULL, random() < 0.5, array[random(), NULL], to_jsonb(junk()))::author, NULL]`,
	"byline":        `((junk(), NULL, NULL, '{}', NULL)::author, array[(junk(), NULL, NULL, NULL, to_jsonb(junk()))::author], 'epoch'::timestamptz + random() * '90 years'::interval)::byline`,
	"hstore":        `hstore(array[junk(), junk(), 'k', NULL])`,
}

// junk makes short strings out of what trips parsers up.
const junk = `
CREATE FUNCTION junk() RETURNS text LANGUAGE sql VOLATILE AS $$
	SELECT coalesce(string_agg((array['"', '\', '{', '}', '(', ')', ',', ';', '''', ' ', E'\n', E'\t', E'\x01', 'NULL', 'null', '=>', 'é', '日', '🗞',
		E'\u2028', 'a', 'Z', '0', ':', '[', ']', '/', '\u0041', '%', '<'])[1 + floor(random() * 30)::int], ''), '')
	FROM generate_series(1, (random() * 8)::int)
$$;`

func TestRandomRowsAreAsPostgreSQLPrintsThem(t *testing.T) {
	t.Parallel()
	seed := rand.Float64()
	if given := os.Getenv("PGJSON_SEED"); given != "" {
		if _, err := fmt.Sscan(given, &seed); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("PGJSON_SEED=%v", seed)
	db, conn := open(t, junk)
	var definitions, values []string
	for i, typ := range slices.Sorted(maps.Keys(columns)) {
		definitions = append(definitions, fmt.Sprintf("c%d %s", i, typ))
		values = append(values, fmt.Sprintf("CASE WHEN random() < 0.9 THEN %s END", columns[typ]))
	}
	const rows = 300
	db.Exec(fmt.Sprintf("CREATE TABLE wide (%s); SELECT setseed(%v); INSERT INTO wide SELECT %s FROM generate_series(1, %d)",
		strings.Join(definitions, ", "), seed*2-1, strings.Join(values, ", "), rows))
	begin := time.Now()
	if n := check(t, conn, "SELECT * FROM wide"); n != rows {
		t.Fatalf("compared %d rows, want %d", n, rows)
	}
	t.Logf("%d rows of %d columns in %s", rows, len(columns), time.Since(begin))
}

func TestLoadResolvesTypes(t *testing.T) {
	t.Parallel()
	db, conn := open(t, "")
	oid := func(name string) uint32 {
		return pgtest.Value[uint32](db, "SELECT $1::text::regtype::oid", name)
	}
	names := []string{"text", "slug", "shortslug", "labels", "slug[]", "adult", "mood", "hstore", "price", "box[]"}
	var oids []uint32
	for _, name := range names {
		oids = append(oids, oid(name))
	}
	const unknown = 4_000_000_000
	types, err := pgjson.Load(t.Context(), conn, append(oids, unknown))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]pgjson.Kind{
		"text": pgjson.Text, "slug": pgjson.Text, "shortslug": pgjson.Text, "labels": pgjson.Array, "slug[]": pgjson.Array,
		"adult": pgjson.Composite, "mood": pgjson.Text, "hstore": pgjson.Hstore, "price": pgjson.Number, "box[]": pgjson.Array,
	} {
		got := types[oid(name)]
		if got.Kind != want || got.OID != oid(name) {
			t.Errorf("%s: kind %d, OID %d, want kind %d, OID %d", name, got.Kind, got.OID, want, oid(name))
		}
	}
	if got, ok := types[unknown]; !ok || got.Kind != pgjson.Text || got.OID != unknown {
		t.Errorf("an OID that no type has: %+v, want Text", got)
	}
	got, err := pgjson.Append(nil, types[oid("labels")], []byte(`{a,"b c"}`))
	if err != nil || string(got) != `["a","b c"]` {
		t.Errorf("a domain over an array: %s, %v", got, err)
	}
}

func TestTheBuiltInTypesAreTheServersOwn(t *testing.T) {
	t.Parallel()
	db, conn := open(t, "")
	for _, oid := range pgtest.Values[uint32](db, "SELECT oid FROM pg_type WHERE oid < 16384 AND typtype IN ('b', 'r', 'm')") {
		known, ok := pgjson.Builtin(oid)
		if !ok {
			continue
		}
		elem := pgtest.Value[uint32](db, "SELECT CASE WHEN typlen = -1 THEN typelem ELSE 0 END::oid FROM pg_type WHERE oid = $1", oid)
		var knownElem uint32
		if known.Elem != nil {
			knownElem = known.Elem.OID
		}
		if elem != knownElem {
			t.Errorf("type %d: elements of type %d, the server says %d", oid, knownElem, elem)
		}
		if known.Kind != pgjson.Array {
			continue
		}
		if delim := pgtest.Value[string](db, "SELECT typdelim::text FROM pg_type WHERE oid = $1", elem); delim != string(known.Delim) {
			t.Errorf("type %d: delimiter %q, the server says %q", oid, known.Delim, delim)
		}
	}
	if _, err := pgjson.Load(t.Context(), conn, nil); err != nil {
		t.Errorf("Load of nothing: %v", err)
	}
}
