package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"newswire/ack/offline/kafkatest"
	"newswire/cdc/pgtest"
	"newswire/cmd/newswire/internal/harness"
	"newswire/migrations"
)

// receiver plays the site's webhook: it keeps the titles that it was told, and
// refuses those for which it is not ready.
type receiver struct {
	*httptest.Server
	mu      sync.Mutex // guards the rest
	told    []string
	refused map[string]int
	busy    string // the title that is refused for the moment
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{refused: make(map[string]int)}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		var notification struct {
			Data struct{ Title string }
		}
		if err := json.Unmarshal(body, &notification); err != nil || notification.Data.Title == "" {
			t.Errorf("the webhook got %s (%v)", body, err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if title := notification.Data.Title; title == r.busy {
			r.refused[title]++
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
		} else {
			r.told = append(r.told, title)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

// telephones runs the compensation service until the returned function is called.
func telephones(t *testing.T, db *pgtest.DB, broker, hook string) (stop func()) {
	t.Helper()
	if _, err := migrations.Apply(t.Context(), db.SuperDSN, migrations.Compensate()); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	key := filepath.Join(dir, "secret")
	configuration := fmt.Sprintf(`gateway: {auth: {hs256_secret_file: "%[1]s"}}
offline: {brokers: ["%[2]s"]}
compensate:
  listen: 127.0.0.1:0
  admin: 127.0.0.1:0
  postgres: {dsn: "%[3]s"}
  channels: {webhook: {url: "%[4]s", allow_http: true, secret_files: ["%[1]s"]}}
`, key, broker, db.SuperDSN, hook)
	path := filepath.Join(dir, "newswire.yaml")
	for name, text := range map[string]string{path: configuration, key: secret} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var out, errs bytes.Buffer // read once run has returned
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, []string{"compensate", "--config", path}, nil, &out, &errs) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if code := <-ended; code != exitDone {
			t.Errorf("compensate ended with %d: %s", code, errs.String())
		}
	})
	t.Cleanup(stop)
	return stop
}

// An article that is withdrawn before anybody was told of it reaches no
// telephone: not when that was before its hand-over, not when it lay in Kafka by
// then, and not when it waited for its channel.
func TestARetractedArticleReachesNoTelephone(t *testing.T) {
	t.Parallel()
	kafka := kafkatest.New(t, kfake.SeedTopics(3, harness.OfflineTopic, harness.CancelledTopic))
	db := pgtest.New(t)
	e := harness.Start(t, harness.Options{DB: db, AckTimeout: time.Second, Brokers: kafka.Addrs, Env: []string{"NEWSWIRE_ACK_RETRIES=0"}})
	e.Follow("away", []string{"tech"}, nil)
	hook := newReceiver(t)
	hook.busy = "withdrawn while it waits"
	// records are those that Kafka has of an article, by its action.
	records := func(topic string) int { return len(harness.Records(t, e.Brokers, topic)) }
	handedOver := func(key int64) func() (bool, any) {
		return func() (bool, any) {
			all := harness.Records(t, e.Brokers, harness.OfflineTopic)
			return slices.ContainsFunc(all, func(r kafkatest.Record) bool {
				return bytes.Contains(r.Value, fmt.Appendf(nil, `"action":"publish"`)) && bytes.Contains(r.Value, fmt.Appendf(nil, `"key":{"id":%d}`, key))
			}), len(all)
		}
	}
	withdraw := func(key int64) { db.Exec("DELETE FROM articles WHERE id = $1", key) }

	early := article(db, "withdrawn before the hand-over", "tech")
	withdraw(early)
	late := article(db, "withdrawn in Kafka", "tech")
	article(db, "kept", "tech")
	harness.Eventually(t, "the article to be handed over", handedOver(late))
	withdraw(late)
	harness.Eventually(t, "Kafka to know that it is withdrawn", func() (bool, any) { n := records(harness.CancelledTopic); return n >= 1, n })
	telephones(t, db, e.Brokers[0], hook.URL)

	waits := article(db, "withdrawn while it waits", "tech")
	harness.Eventually(t, "the telephone to be busy", func() (bool, any) {
		hook.mu.Lock()
		defer hook.mu.Unlock()
		return hook.refused[hook.busy] > 0, hook.refused
	})
	withdraw(waits)
	harness.Eventually(t, "the waiting one to be cancelled", func() (bool, any) {
		states := pgtest.Values[string](db, `SELECT state || ' ' || reason FROM newswire_compensate.deliveries WHERE article LIKE '%' || $1 || '%'`, fmt.Sprintf(`{"id":%d}`, waits))
		return slices.Equal(states, []string{"cancelled retracted"}) || slices.Equal(states, []string{"retracted "}), states
	})
	hook.mu.Lock()
	hook.busy = ""
	hook.mu.Unlock()
	last := article(db, "the last", "tech") // whoever is told of it was told of what came before
	harness.Eventually(t, "the last to be handed over", handedOver(last))
	e.AwaitSettled()
	harness.Eventually(t, "every record to have an outcome", func() (bool, any) {
		settled := pgtest.Value[int](db, `SELECT count(settled_at)::int FROM newswire_compensate.records`)
		return settled == records(harness.OfflineTopic), settled
	})
	hook.mu.Lock()
	defer hook.mu.Unlock()
	if slices.Sort(hook.told); !slices.Equal(hook.told, []string{"kept", "the last"}) {
		t.Errorf("the telephone was told of %q", hook.told)
	}
}
