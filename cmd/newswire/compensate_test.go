package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"

	"newswire/ack/offline/kafkatest"
	"newswire/cdc/pgtest"
)

// compensateYAML configures the service with a webhook alone.
func compensateYAML(dsn, broker, hook string) string {
	return fmt.Sprintf(`gateway: {auth: {hs256_secret_file: secret}}
offline: {brokers: ["%s"]}
compensate:
  listen: 127.0.0.1:0
  admin: 127.0.0.1:0
  postgres: {dsn: "%s"}
  channels: {webhook: {url: "%s", allow_http: true, secret_files: [secret]}}
`, broker, dsn, hook)
}

func TestWrongCallsOfCompensateAreOneSentence(t *testing.T) {
	configuration := compensateYAML("postgres://nobody@127.0.0.1:1/none", "127.0.0.1:1", "http://127.0.0.1:1/")
	for args, want := range map[string]string{
		"compensate --replay-to 1h":                  "--replay-to needs --replay-from",
		"compensate --replay-from soon":              `--replay-from "soon" is neither a time such as 2026-11-23T09:41:00Z nor an age such as 2h`,
		"compensate --replay-from 1h --replay-to 2h": "--replay-to 2h is not behind --replay-from 1h",
		"compensate --replay-dlq --replay-from 1h":   "--replay-dlq and --replay-from do different things: give one of them",
		"compensate --list-doubtful --dry-run":       "--list-doubtful only lists: give it alone",
		"compensate --replay-dlq --dry-run":          "--dry-run looks into the topic, not into its dead letters: read those with any Kafka client",
		"migrate now":                                `newswire migrate takes no argument, but was given "now"`,
	} {
		code, stdout, stderr := call(t, configuration, nil, strings.Fields(args)...)
		if code != exitUsage || stdout != "" || stderr != "newswire: "+want+"\n" {
			t.Errorf("%s: code %d, %q, %q; want %q", args, code, stdout, stderr, want)
		}
	}
	for missing, want := range map[string]string{
		"channels: {webhook": "compensate.channels names none: configure at least one of webpush, apns, fcm, sms and webhook",
		"postgres: {dsn":     "compensate.postgres.dsn is missing",
	} {
		i := strings.Index(configuration, "  "+missing)
		j := i + strings.IndexByte(configuration[i:], '\n') + 1
		code, _, stderr := call(t, configuration[:i]+configuration[j:], nil, "compensate")
		if code != exitUsage || !strings.Contains(stderr, want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("without %s: code %d, %q", missing, code, stderr)
		}
	}
	if code, _, stderr := call(t, configuration, []string{"NEWSWIRE_FAULTS=x"}, "compensate"); code != exitUsage || !strings.Contains(stderr, "NEWSWIRE_FAULTS") {
		t.Errorf("a malformed fault: code %d, %q", code, stderr)
	}
}

func TestMigrateAndCompensateFromTheShell(t *testing.T) {
	db := pgtest.New(t, pgtest.WithSchema(""), pgtest.WithPublication(""), pgtest.WithoutSlot())
	broker := kafkatest.New(t, kfake.SeedTopics(3, "news-offline", "news-offline-cancelled"))
	got := make(chan string, 10)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- r.Header.Get("webhook-id") + " " + string(body)
	}))
	defer hook.Close()
	configuration := compensateYAML(db.SuperDSN, broker.Addrs[0], hook.URL)

	if code, _, stderr := call(t, configuration, nil, "compensate"); code != exitFailed || !strings.Contains(stderr, "run newswire migrate") {
		t.Fatalf("without tables: code %d, %q", code, stderr)
	}
	if code, stdout, _ := call(t, configuration, nil, "migrate", "--print"); code != exitDone || !strings.Contains(stdout, "CREATE TABLE newswire_compensate.devices") {
		t.Errorf("migrate --print: code %d, %q", code, stdout)
	}
	if code, stdout, stderr := call(t, configuration, nil, "migrate"); code != exitDone || !strings.Contains(stdout, "Applied 0001_devices.sql.\n") {
		t.Fatalf("migrate: code %d, %q, %q", code, stdout, stderr)
	}
	if code, stdout, _ := call(t, configuration, nil, "migrate"); code != exitDone || !strings.HasPrefix(stdout, "Nothing to do") {
		t.Errorf("migrate again: code %d, %q", code, stdout)
	}
	refusedAtOnce(t, db, func(dsn string) string { return compensateYAML(dsn, broker.Addrs[0], hook.URL) })
	if code, stdout, stderr := call(t, configuration, nil, "compensate", "--list-doubtful"); code != exitDone || stdout != "" {
		t.Errorf("--list-doubtful: code %d, %q, %q", code, stdout, stderr)
	}

	now := time.Now().UTC().Format(time.RFC3339Nano)
	value := `{"id":"00010000000000000001","reader":"u1","reason":"disconnected","attempts":0,"first_sent":null,"handed_over":"` + now + `","message":{"id":"00010000000000000001",
		"action":"publish","tags":["tech"],"source":"public.articles","key":{"id":1},"time":"` + now + `","data":{"id":1,"title":"Tram"}}}`
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	w := &kafka.Writer{Addr: kafka.TCP(broker.Addrs...), Transport: transport, Topic: "news-offline", BatchTimeout: time.Millisecond, RequiredAcks: kafka.RequireAll}
	if err := w.WriteMessages(t.Context(), kafka.Message{Key: []byte("u1"), Value: []byte(value)}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if code, stdout, stderr := call(t, configuration, nil, "compensate", "--dry-run"); code != exitDone || !strings.Contains(stdout, `"outcome":"send","channel":"webhook","title":"Tram"`) {
		t.Errorf("--dry-run: code %d, %q, %q", code, stdout, stderr)
	}
	serveUntilTold(t, configuration, got)
	if code, stdout, stderr := call(t, configuration, nil, "compensate", "--dry-run"); code != exitDone || stdout != "" || !strings.Contains(stderr, "--replay-from 2h looks at what it had") {
		t.Errorf("--dry-run of nothing: code %d, %q, %q", code, stdout, stderr)
	}
	if code, stdout, stderr := call(t, configuration, nil, "compensate", "--replay-from", "1h"); code != exitDone || stdout != "Read 1 records, opened 0 of them: running instances send these.\n" {
		t.Errorf("--replay-from: code %d, %q, %q", code, stdout, stderr)
	}
}

// refusedAtOnce tries what no waiting would mend.
func refusedAtOnce(t *testing.T, db *pgtest.DB, configuration func(dsn string) string) {
	t.Helper()
	good, err := pgx.ParseConfig(db.SuperDSN)
	if err != nil {
		t.Fatal(err)
	}
	dsn := func(user, database string) string {
		return fmt.Sprintf("host=%s port=%d user=%s dbname=%s", good.Host, good.Port, user, database)
	}
	refused := func(what, dsn, want string, args ...string) {
		t.Helper()
		code, _, stderr := call(t, configuration(dsn), nil, args...)
		if code != exitFailed || !strings.Contains(stderr, want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: code %d, %q; want %q", what, code, stderr, want)
		}
	}
	refused("no such role", dsn("nobody_of_this_name", good.Database), "SQLSTATE 28000); correct user and password", "compensate")
	refused("no such database", dsn(good.User, "no_such_database"), "SQLSTATE 3D000); create it and run newswire migrate", "compensate")
	db.Exec(`REVOKE USAGE ON SCHEMA newswire_compensate FROM ` + db.Role)
	refused("no right to the schema", dsn(db.Role, good.Database), "may not read schema newswire_compensate: run newswire migrate as that role, or GRANT USAGE", "compensate")
	db.Exec(`GRANT USAGE ON SCHEMA newswire_compensate TO ` + db.Role)
	db.Exec(`GRANT INSERT, UPDATE, DELETE ON newswire_compensate.devices TO ` + db.Role)
	refused("no right to write", dsn(db.Role, good.Database), "may not read and write cancelled, deliveries, forgotten, instances, paces, positions, records of schema", "compensate")
	db.Exec(`INSERT INTO newswire_compensate.versions (version_id, is_applied) VALUES (9999, true)`)
	defer db.Exec(`DELETE FROM newswire_compensate.versions WHERE version_id = 9999`)
	for _, command := range []string{"compensate", "migrate"} {
		refused("newer tables, "+command, db.SuperDSN, "are at version 9999, this newswire knows", command)
	}
}

// serveUntilTold runs the service until the webhook was called, and ends it.
func serveUntilTold(t *testing.T, configuration string, got <-chan string) {
	t.Helper()
	dir := t.TempDir()
	t.Chdir(dir)
	for name, text := range map[string]string{"newswire.yaml": configuration, "secret": secret} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var out, errs bytes.Buffer // read once run has returned
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, []string{"compensate"}, nil, &out, &errs) }()
	select {
	case text := <-got:
		if !strings.Contains(text, "Tram") || !strings.Contains(text, "u1") {
			t.Errorf("the webhook got %s", text)
		}
	case code := <-ended:
		t.Fatalf("compensate ended with %d: %s", code, errs.String())
	case <-time.After(time.Minute):
		t.Fatal("the webhook was not called")
	}
	stop()
	if code := <-ended; code != exitDone {
		t.Errorf("compensate ended with %d: %s", code, errs.String())
	}
}
