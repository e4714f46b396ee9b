package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"newswire/ack/offline/kafkatest"
	"newswire/cdc/pgtest"
	"newswire/cmd/newswire/internal/harness"
	"newswire/gateway/gatewaytest"
)

// TestRestoreUnderLoadMissesNothing backs the journal up while articles come in,
// are acknowledged and handed over, loses it, and restores it: intake stops at
// the gap, resync closes it, and in the end everybody has had every article.
func TestRestoreUnderLoadMissesNothing(t *testing.T) {
	t.Parallel()
	const commits = 600
	kafka := kafkatest.New(t, kfake.SeedTopics(2, "news-offline", "news-offline-cancelled"))
	db := pgtest.New(t)
	e := harness.Start(t, harness.Options{DB: db, AckTimeout: time.Second, Brokers: kafka.ListenAddrs()})
	e.Follow("away", []string{"load"}, nil)
	r := e.Dial("here", gatewaytest.Options{Follow: []string{"load"}})
	r.Welcome()
	done := harness.StartLoad(t, db, harness.Load{Clients: 4, Commits: commits, Rate: commits / 5, Tag: "load"})
	file := filepath.Join(t.TempDir(), "newswire.backup")
	var size int64
	for n := range 3 {
		r.WaitMessages((n + 1) * commits / 5)
		if result := e.Run("backup", file); result.Code != 0 || !strings.Contains(result.Stdout, " added, ") {
			t.Fatalf("backup: %+v", result)
		}
		info, err := os.Stat(file)
		if err != nil || info.Size() <= size {
			t.Fatalf("the backup has %v bytes after %d, %v", info.Size(), size, err)
		}
		size = info.Size()
	}
	done()
	r.WaitMessages(commits)
	db.Exec(`UPDATE articles SET title = 'corrected' WHERE id % 7 = 0`)
	db.Exec(`DELETE FROM articles WHERE id % 10 = 0`)
	e.AwaitSettled()
	e.Kill()

	if result := e.Run("restore", file); result.Code != exitFailed || !strings.Contains(result.Stderr, "holds a journal: stop the engine and move that away") {
		t.Errorf("restore over a journal: %+v", result)
	}
	e.WipeJournal()
	if result := e.Run("restore", file); result.Code != 0 || !strings.Contains(result.Stdout, "`newswire resync`") {
		t.Fatalf("restore: %+v", result)
	}
	e.Launch()
	harness.Eventually(t, "the engine to stop at the gap", func() (bool, any) {
		s, err := e.TryStatus()
		return err == nil && !s.Ready && strings.Contains(strings.Join(s.Reasons, "\n"), "newswire resync"), []any{s, err}
	})
	if result := e.Run("resync"); result.Code != 0 {
		t.Fatalf("resync: %+v", result)
	}
	e.AwaitReady()
	late := e.Dial("here", gatewaytest.Options{})
	e.AwaitSettled()

	left := pgtest.Value[int](db, `SELECT count(*) FROM articles`)
	stand := make(map[string]string) // by key, what "here" was told last
	for _, f := range append(r.Messages(), late.Messages()...) {
		stand[string(f.Key)] = f.Action
	}
	told := 0
	for _, action := range stand {
		if action != "retract" {
			told++
		}
	}
	if len(stand) != commits || told != left {
		t.Errorf("the reader knows %d articles, %d of them published, want %d and %d", len(stand), told, commits, left)
	}
	records := kafkatest.Collect(t, e.Brokers, "news-offline", func(all []kafkatest.Record) bool { return len(all) >= commits })
	once := make(map[string]bool)
	for _, rec := range records {
		if rec.Key != "away" {
			t.Errorf("a record for %q, who was there", rec.Key)
		}
		once[rec.Headers["ce_id"]] = true
	}
	t.Logf("%d records on news-offline, %d ce_ids", len(records), len(once))
	if result := e.Run("audit"); result.Code != 0 {
		t.Errorf("audit: %+v", result)
	}
}
