package site_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"

	"newswire/cdc/pgtest"
	"newswire/cmd/newswire/internal/demo/site"
	"newswire/migrations"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const topic = "news-offline"

var secret = []byte("a secret of at least thirty-two bytes")

// newSite serves the page over HTTP, with the database of editorDSN.
func newSite(t *testing.T, editorDSN string) (*site.Site, *httptest.Server) {
	t.Helper()
	s, err := site.New(site.Config{
		Host:      "news.test",
		Secret:    secret,
		EditorDSN: editorDSN,
		Topic:     topic,
		Commands:  site.Commands{Psql: "psql …", Kcat: "kcat …"},
	}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return s, server
}

// noDatabase is for tests that run no SQL.
const noDatabase = "host=/nonexistent"

// ask sends a request and gives the answer with its body.
func ask(t *testing.T, method, url, body string, change func(*http.Request)) (*http.Response, []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	if change != nil {
		change(r)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, text
}

func TestThePageLoadsNothingFromElsewhere(t *testing.T) {
	t.Parallel()
	_, server := newSite(t, noDatabase)
	answer, body := ask(t, "GET", server.URL+"/", "", nil)
	if answer.StatusCode != 200 || !strings.HasPrefix(answer.Header.Get("Content-Type"), "text/html") {
		t.Fatalf("GET / = %s, %s", answer.Status, answer.Header.Get("Content-Type"))
	}
	policy := answer.Header.Get("Content-Security-Policy")
	host := strings.TrimPrefix(server.URL, "http://")
	for _, want := range []string{"default-src 'none'", "script-src 'self'", "connect-src 'self' ws://" + host, "base-uri 'none'", "frame-ancestors 'none'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("policy %q lacks %q", policy, want)
		}
	}
	if strings.Contains(policy, "unsafe") || answer.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("headers are %v", answer.Header)
	}
	for _, inline := range []string{"<style", " style=", " onclick=", "<script>"} {
		if bytes.Contains(body, []byte(inline)) {
			t.Errorf("the page contains %q, which its policy forbids", inline)
		}
	}
	for _, path := range []string{"/demo/app.css", "/demo/app.js", "/demo/editor.js", "/demo/reader.js", "/demo/offline.js", "/demo/info"} {
		if answer, body := ask(t, "GET", server.URL+path, "", nil); answer.StatusCode != 200 || len(body) == 0 {
			t.Errorf("GET %s = %s with %d bytes", path, answer.Status, len(body))
		}
	}
	if answer, _ := ask(t, "GET", server.URL+"/demo/other", "", nil); answer.StatusCode != 404 {
		t.Errorf("GET of what is not there = %s", answer.Status)
	}
}

func TestOnlyTheSitesOwnNamesAreServed(t *testing.T) {
	t.Parallel()
	_, server := newSite(t, noDatabase)
	for host, want := range map[string]int{
		"localhost:8080": 200, "127.0.0.1": 200, "[::1]:8080": 200, "[::1]": 200, "LOCALHOST": 200, "news.test:1": 200,
		"evil.example": 421, "localhost.evil.example:8080": 421, "127.0.0.1.evil.example": 421, "192.0.2.1:8080": 421,
	} {
		answer, _ := ask(t, "GET", server.URL+"/demo/token?reader=ann", "", func(r *http.Request) { r.Host = host })
		if answer.StatusCode != want {
			t.Errorf("Host %s: %s, want %d", host, answer.Status, want)
		}
	}
}

func TestSQLIsTakenFromTheOwnPageOnly(t *testing.T) {
	t.Parallel()
	_, server := newSite(t, noDatabase)
	url := server.URL + "/demo/sql"
	for name, test := range map[string]struct {
		change func(*http.Request)
		want   int
	}{
		"another site's fetch":  {func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, 403},
		"another port's fetch":  {func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") }, 403},
		"an old browser's post": {func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }, 403},
		"a form":                {func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }, 415},
		"no type":               {func(r *http.Request) { r.Header.Del("Content-Type") }, 415},
		"not JSON":              {func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("SELECT 1")); r.ContentLength = 8 }, 400},
		"the page":              {func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-origin") }, 422},
	} {
		if answer, body := ask(t, "POST", url, `{"sql":"SELECT 1"}`, test.change); answer.StatusCode != test.want {
			t.Errorf("%s: %s %s, want %d", name, answer.Status, body, test.want)
		}
	}
	if answer, _ := ask(t, "GET", url, "", nil); answer.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET = %s", answer.Status)
	}
}

// cms gives a database with the demo's tables, and the editor's address of it.
func cms(t *testing.T) (db *pgtest.DB, editorDSN string) {
	t.Helper()
	db = pgtest.New(t, pgtest.WithSchema(""), pgtest.WithPublication(""))
	if _, err := migrations.Apply(t.Context(), db.SuperDSN, migrations.CMS()); err != nil {
		t.Fatal(err)
	}
	return db, db.Server().DSN(db.Name, "editor")
}

func TestSQLRunsAsItStandsAsTheEditor(t *testing.T) {
	t.Parallel()
	db, dsn := cms(t)
	_, server := newSite(t, dsn)
	type reply struct {
		Tags          []string
		Code, Message string
	}
	run := func(sql string) (int, reply) {
		body, err := json.Marshal(map[string]string{"sql": sql})
		if err != nil {
			t.Fatal(err)
		}
		answer, text := ask(t, "POST", server.URL+"/demo/sql", string(body), nil)
		var r reply
		if err := json.Unmarshal(text, &r); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		return answer.StatusCode, r
	}
	for _, test := range []struct {
		sql  string
		tags []string
		code string
	}{
		{sql: `INSERT INTO articles (title, tags) VALUES ('It''s "one"', ARRAY['tech'])`, tags: []string{"INSERT 0 1"}},
		{sql: `BEGIN; INSERT INTO articles (title) VALUES ('two'), ('three'); ROLLBACK`, tags: []string{"BEGIN", "INSERT 0 2", "ROLLBACK"}},
		{sql: `BEGIN; INSERT INTO articles (title) VALUES ('left open')`, tags: []string{"BEGIN", "INSERT 0 1"}},
		{sql: `INSERT INTO articles (title) VALUES ('undone'); SELECT 1/0`, code: "22012"},
		{sql: `INSERT INTO articles (titel) VALUES ('x')`, code: "42703"},
		{sql: `DROP TABLE articles`, code: "42501"},
		{sql: `SELECT pg_read_file('/etc/passwd')`, code: "42501"},
		{sql: ``, tags: []string{}},
	} {
		status, r := run(test.sql)
		if want := map[bool]int{true: 200, false: 422}[test.code == ""]; status != want || r.Code != test.code || !slices.Equal(r.Tags, test.tags) {
			t.Errorf("%s: %d %+v, want %d with %v %s", test.sql, status, r, want, test.tags, test.code)
		}
		if test.code != "" && r.Message == "" {
			t.Errorf("%s: PostgreSQL's message is missing", test.sql)
		}
	}
	if got := pgtest.Values[string](db, `SELECT title FROM articles`); !slices.Equal(got, []string{`It's "one"`}) {
		t.Errorf("the table holds %q, want only the first", got)
	}
}

func TestATokenNamesItsReader(t *testing.T) {
	t.Parallel()
	_, server := newSite(t, noDatabase)
	answer, body := ask(t, "GET", server.URL+"/demo/token?reader=Ann%20%C3%89", "", nil)
	var got struct{ Token string }
	if err := json.Unmarshal(body, &got); err != nil || answer.StatusCode != 200 {
		t.Fatalf("%s %s", answer.Status, body)
	}
	var claims jwt.RegisteredClaims
	_, err := jwt.ParseWithClaims(got.Token, &claims, func(*jwt.Token) (any, error) { return secret, nil },
		jwt.WithValidMethods([]string{"HS256"}), jwt.WithExpirationRequired())
	if err != nil || claims.Subject != "Ann É" || time.Until(claims.ExpiresAt.Time) > 10*time.Minute {
		t.Errorf("claims %+v, %v", claims, err)
	}
	for _, reader := range []string{"", "a%0Ab", "%FF", strings.Repeat("x", 257)} {
		if answer, _ := ask(t, "GET", server.URL+"/demo/token?reader="+reader, "", nil); answer.StatusCode != 400 {
			t.Errorf("reader %q: %s, want 400", reader, answer.Status)
		}
	}
}

// producer gives a function that writes records to the topic, each under
// itself as ce_id.
func producer(t *testing.T, brokers []string) func(records ...string) {
	t.Helper()
	transport := &kafka.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	writer := &kafka.Writer{
		Addr: kafka.TCP(brokers...), Topic: topic, RequiredAcks: kafka.RequireAll,
		BatchTimeout: time.Millisecond, Transport: transport,
	}
	t.Cleanup(func() { _ = writer.Close() })
	return func(records ...string) {
		t.Helper()
		for _, record := range records {
			id := kafka.Header{Key: "ce_id", Value: []byte(record)}
			if err := writer.WriteMessages(t.Context(), kafka.Message{Key: []byte(record), Value: []byte(record), Headers: []kafka.Header{id}}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// offlineList is an answer of /demo/offline.
type offlineList struct {
	Records []struct{ ID string }
	Next    int
}

func TestTheOfflineListShowsTheTopicFromItsBeginning(t *testing.T) {
	t.Parallel()
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, topic))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	s, server := newSite(t, noDatabase)
	produce := producer(t, broker.ListenAddrs())
	produce(`{"id":"1"}`, `{"id":"2"}`, `not JSON`)

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, broker.ListenAddrs()) }()
	produce(`{"id":"3"}`, `{"id":"3"}`) // Kafka may carry a record twice

	list := func(from string) offlineList {
		_, body := ask(t, "GET", server.URL+"/demo/offline?from="+from, "", nil)
		var l offlineList
		if err := json.Unmarshal(body, &l); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		return l
	}
	deadline := time.After(2 * time.Minute)
	for list("0").Next < 3 {
		select {
		case <-deadline:
			t.Fatalf("the list has %+v", list("0"))
		case <-time.After(20 * time.Millisecond):
		}
	}
	var ids []string
	for _, r := range list("0").Records {
		ids = append(ids, r.ID)
	}
	slices.Sort(ids) // partitions are read side by side
	if !slices.Equal(ids, []string{"1", "2", "3"}) {
		t.Errorf("the list has %v", ids)
	}
	if r := list("2"); len(r.Records) != 1 || r.Next != 3 {
		t.Errorf("from 2: %+v", r)
	}
	if r := list("99"); len(r.Records) != 0 || r.Next != 3 {
		t.Errorf("from 99: %+v", r)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run ended with %v", err)
	}
}
