package config

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

const secretText = "0123456789abcdef0123456789abcdef"

// files makes a directory with the given files and a token secret in it.
func files(t testing.TB, contents map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("secret", secretText+"\n")
	for name, text := range contents {
		write(name, text)
	}
	return dir
}

// least is the shortest configuration that can be served.
const least = `postgres:
  dsn: postgres://newswire@db/cms
  slot: newswire
  publication: newswire
  tables: [{name: public.articles, tags: {column: tags}, data: [id, title]}]
gateway: {auth: {hs256_secret_file: DIR/secret}}
`

// load reads text as a file, DIR in it being the files' directory, and env.
func load(t testing.TB, text string, env map[string]string, more map[string]string) (Config, error) {
	t.Helper()
	dir := files(t, more)
	path := filepath.Join(dir, "newswire.yaml")
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "DIR", dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := Load(path, func(name string) string { return strings.ReplaceAll(env[name], "DIR", dir) })
	return cfg, shorten(err, dir)
}

// shorten takes the directory, which no test knows beforehand, out of an error.
func shorten(err error, dir string) error {
	if err == nil {
		return nil
	}
	return textError(strings.ReplaceAll(err.Error(), dir+"/", ""))
}

type textError string

func (e textError) Error() string { return string(e) }

func TestLeastConfigurationHasContractDefaults(t *testing.T) {
	cfg, err := load(t, least, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Postgres = Postgres{
		DSN: "postgres://newswire@db/cms", Slot: "newswire", Publication: "newswire", Heartbeat: 10 * time.Second,
		Tables: []Table{{
			Name: "public.articles", Tags: Tags{Column: "tags"}, DefaultTag: "general", Data: []string{"id", "title"},
		}},
	}
	want.Gateway.Auth.HS256SecretFile = cfg.Gateway.Auth.HS256SecretFile
	want.Gateway.Auth.HS256Secret = []byte(secretText)
	if !reflect.DeepEqual(cfg, want) {
		t.Errorf("Load = %+v\nwant   %+v", cfg, want)
	}
	if got := cfg.Ack.TotalWait(); got != 210*time.Second {
		t.Errorf("TotalWait = %s, want 3m30s", got)
	}
	if err := cfg.Validate(); err != nil {
		t.Errorf("Validate of what Load took: %v", err)
	}
}

// contractFile is the configuration as the contract prints it, with what this
// version serves.
const contractFile = `postgres:
  dsn: postgres://newswire@db/cms?sslmode=verify-full
  slot: newswire
  publication: newswire
  heartbeat: 10s
  backfill: 0s
  tables:
    - name: public.articles
      tags: {column: tags}
      default_tag: general
      data: [id, title, summary, url, published_at]
      published: {column: status, equals: published}
journal:
  dir: /var/lib/newswire
  retention: 72h
fanout:
  shards: 64
gateway:
  listen: :8080
  admin: 127.0.0.1:8081
  origins: ["https://news.example.com"]
  tls: {cert_file: "", key_file: ""}
  auth:
    hs256_secret_file: "DIR/secret"
    issuer: ""
    audience: ""
    anonymous: false
  limits: {sessions: 0, sessions_per_reader: 10, sessions_per_ip: 0, handshakes_per_second: 0, frames_per_second: 50, tags_per_reader: 500}
  trusted_proxies: []
  drain: 10s
ack:
  timeout: 30s
  retries: 2
  backoff: 2
  reader_ttl: 720h
offline:
  brokers: ["localhost:9092"]
  embedded_listen: 127.0.0.1:9092
  topic: news-offline
  tls: false
  sasl: {mechanism: "", username: "", password_file: ""}
compensate:
  listen: :8090
  admin: 127.0.0.1:8091
  group: newswire-compensate
  postgres: {dsn: ""}
  channels: {}
log: {level: info, format: text}
`

func TestContractFileLoads(t *testing.T) {
	cfg, err := load(t, contractFile, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := cfg.Postgres.Tables[0].Published; got == nil || got.Column != "status" || got.Equals != "published" {
		t.Errorf("published = %+v", got)
	}
	for _, s := range settings() { // every line of it is a key of ours, and the other way round
		if name := lastName(s.key); !strings.Contains(contractFile, name+":") &&
			!slices.Contains([]string{"dsn_file", "public_key_file", "jwks_url", "jwks_file", "leeway", "max_ttl", "min_version", "proxy_protocol", "routes", "texts", "expiry", "backlog", "lease", "device_ttl", "reserve"}, name) {
			t.Errorf("%s is not in the contract", s.key)
		}
	}
}

func TestEffectiveLoadsAgain(t *testing.T) {
	first, err := load(t, contractFile, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	second, err := load(t, first.Effective(), nil, nil)
	if err != nil {
		t.Fatalf("%v in\n%s", err, first.Effective())
	}
	if a, b := first.Effective(), second.Effective(); a != b {
		t.Errorf("printed, loaded and printed:\n%s\nwant\n%s", b, a)
	}
	if !strings.Contains(first.Effective(), "retention: 72h0m0s\n") {
		t.Errorf("durations are not as Go prints them:\n%s", first.Effective())
	}
}

func TestEnvironmentBeatsFile(t *testing.T) {
	cfg, err := load(t, least, map[string]string{
		"NEWSWIRE_POSTGRES_DSN_FILE":       "DIR/dsn",
		"NEWSWIRE_POSTGRES_TABLES":         `[{"name":"cms.post","tags":{"columns":["category","section"]},"data":["id"]}]`,
		"NEWSWIRE_GATEWAY_ORIGINS":         "https://a.example, http://b.example:8000",
		"NEWSWIRE_ACK_TIMEOUT":             "1s",
		"NEWSWIRE_ACK_BACKOFF":             "1.5",
		"NEWSWIRE_OFFLINE_BROKERS":         "embedded",
		"NEWSWIRE_OFFLINE_TLS":             "false",
		"NEWSWIRE_GATEWAY_LIMITS_SESSIONS": "7",
	}, map[string]string{"dsn": "host=/run/pg user=newswire\r\n"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ got, want any }{
		{cfg.Postgres.DSN, "host=/run/pg user=newswire"},
		{cfg.Postgres.Tables, []Table{{Name: "cms.post", Tags: Tags{Columns: []string{"category", "section"}}, DefaultTag: "general", Data: []string{"id"}}}},
		{cfg.Gateway.Origins, []string{"https://a.example", "http://b.example:8000"}},
		{cfg.Ack.Timeout, time.Second},
		{cfg.Ack.Backoff, 1.5},
		{cfg.Offline.Embedded(), true},
		{cfg.Gateway.Limits.Sessions, 7},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("got %+v, want %+v", c.got, c.want)
		}
	}
}

func TestEnvironmentAloneIsEnough(t *testing.T) {
	dir := files(t, nil)
	env := map[string]string{
		"NEWSWIRE_POSTGRES_DSN":                   "postgres://newswire@db/cms",
		"NEWSWIRE_POSTGRES_SLOT":                  "newswire",
		"NEWSWIRE_POSTGRES_PUBLICATION":           "newswire",
		"NEWSWIRE_POSTGRES_TABLES":                "[{name: public.articles, tags: {column: tags}, data: [id]}]",
		"NEWSWIRE_GATEWAY_AUTH_HS256_SECRET_FILE": filepath.Join(dir, "secret"),
	}
	if _, err := Load("", func(name string) string { return env[name] }); err != nil {
		t.Error(err)
	}
}

// sample is a value that each kind of key takes and no default has.
func sample(t reflect.Type) string {
	if t == reflect.TypeFor[*Channels]() {
		return "{webhook: {url: 'https://x.example/'}}"
	}
	switch {
	case t == durationType:
		return "17s"
	case t == reflect.TypeFor[[]string]():
		return "one,two"
	case t.Kind() == reflect.Slice:
		return `[{"name":"a.b"}]`
	case t.Kind() == reflect.Map:
		return `{"webhook":{}}`
	case t.Kind() == reflect.Bool:
		return "true"
	case t.Kind() == reflect.String:
		return "something"
	}
	return "17"
}

func TestChannelsPrintAndLoadAgain(t *testing.T) {
	const text = least + `compensate:
  channels:
    webhook: {url: 'https://x.example/', secret_files: [secret], http: {timeout: 3s}, policy: {per_hour: 6, any_time: false}}
    sms: {url: 'https://y.example/', body: '{}', headers: {X-A: b}, policy: {backend_only: false}}
  routes: [{tags: ["*"], steps: [[webhook], [sms]], expiry: 1h}]
  texts: {default: {title: "{{.data.title}}"}, de: {digest_title: x}}
`
	first, err := load(t, text, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	second, err := load(t, first.Effective(), nil, nil)
	if err != nil {
		t.Fatalf("%v in\n%s", err, first.Effective())
	}
	if a, b := first.Effective(), second.Effective(); a != b {
		t.Errorf("printed\n%s\nand then\n%s", a, b)
	}
	m := second.Compensate
	rules := m.Rules()
	if w := rules.Channels["webhook"]; w.PerHour != 6 || w.AnyTime || !w.Corrections || rules.Channels["sms"].Corrections {
		t.Errorf("rules are %+v", rules.Channels)
	}
	if all := m.Channels.Configured(); len(all) != 2 || all[0].Name != "sms" || all[0].OnlyBackend() || all[1].OnlyBackend() {
		t.Errorf("configured: %+v", all)
	}
	if m.Channels.Webhook.HTTP.Timeout != 3*time.Second || rules.Routes[0].Expiry != time.Hour || rules.Texts[""].Title == "" || rules.Texts["de"].DigestTitle != "x" {
		t.Errorf("loaded %+v", m)
	}
}

func TestEveryKeyHasItsVariable(t *testing.T) {
	seen := make(map[string]string)
	for _, s := range settings() {
		if other := seen[s.env]; other != "" {
			t.Errorf("%s and %s share %s", other, s.key, s.env)
		}
		seen[s.env] = s.key

		before := Default()
		v := fieldAt(reflect.ValueOf(&before).Elem(), s.key)
		text := sample(v.Type())
		after, _ := LoadFor("", func(name string) string {
			if name == s.env {
				return text
			}
			return ""
		}) // no section is judged: only whether the value arrives
		if got := fieldAt(reflect.ValueOf(&after).Elem(), s.key); reflect.DeepEqual(got.Interface(), v.Interface()) {
			t.Errorf("%s=%s left %s at %v", s.env, text, s.key, got)
		}
	}
	if len(seen) < 45 {
		t.Errorf("only %d keys found", len(seen))
	}
}

func TestSectionsNotNeededMayBeIncomplete(t *testing.T) {
	dir := files(t, map[string]string{"newswire.yaml": "postgres: {dsn: postgres://db/cms, slot: s, publication: p, " +
		"tables: [{name: a.b, tags: {column: c}, data: [d]}]}\ngateway: {auth: {hs256_secret_file: /nowhere}}\n"})
	path := filepath.Join(dir, "newswire.yaml")
	getenv := func(string) string { return "" }
	if _, err := LoadFor(path, getenv, "postgres"); err != nil {
		t.Errorf("LoadFor postgres: %v", err)
	}
	if _, err := Load(path, getenv); err == nil {
		t.Error("Load took a secret file that is not there")
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(least, "30s")
	f.Add(contractFile, "")
	f.Add("a: &x [*x]\npostgres: *x", "[")
	f.Add("postgres: {tables: [{tags: {columns: [~, {}]}}]}\n---\n", "{a: b}")
	f.Fuzz(func(t *testing.T, text, env string) {
		cfg, err := parse("newswire.yaml", []byte(text), func(name string) string {
			if strings.HasSuffix(name, "FILE") {
				return "" // what lies elsewhere on the machine is not the fuzzer's to read
			}
			return env
		}, sectionNames())
		if printed := cfg.Effective(); err == nil && printed == "" {
			t.Errorf("nothing printed for %+v", cfg)
		}
	})
}
