package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"newswire/cdc/pgtest"
	"newswire/cmd/newswire/internal/harness"
	"newswire/gateway/gatewaytest"
)

// TestNewReadersFindTodaysNews starts an engine for the first time beside
// articles of the last days. Whoever follows a tag for the first time gets
// today's, once, over kills too, and nothing of it is ever handed over.
func TestNewReadersFindTodaysNews(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, pgtest.WithoutSlot())
	db.Exec(`INSERT INTO articles (id, title, tags, published_at)
		SELECT n, 'hours ago: ' || n, CASE WHEN n % 2 = 0 THEN '{tech,even}'::text[] ELSE '{tech,odd}' END, now() - n * '1h'::interval + '30min' FROM generate_series(1, 48) n`)
	db.Slot = db.Name + "_slot"
	db.CreateSlot(db.Slot)
	e := harness.Start(t, harness.Options{DB: db, AckTimeout: 100 * time.Millisecond, Env: []string{untilReached, "NEWSWIRE_POSTGRES_BACKFILL=24h", "NEWSWIRE_ACK_RETRIES=1"}})
	today := func(keep func(n int) bool) (keys []string) {
		for n := 24; n > 0; n-- {
			if keep(n) {
				keys = append(keys, fmt.Sprintf(`{"id":%d}`, n))
			}
		}
		return keys
	}
	all := today(func(int) bool { return true })
	want := func(who string, got []gatewaytest.Frame, keys []string) {
		t.Helper()
		var have []string
		for _, f := range got {
			have = append(have, string(f.Key))
			if !f.Replay || f.Attempt != 1 {
				t.Errorf("%s: message about %s has replay %v, attempt %d", who, f.Key, f.Replay, f.Attempt)
			}
		}
		if !slices.Equal(have, keys) {
			t.Errorf("%s gets %q, want %q", who, have, keys)
		}
	}

	eager := e.Dial("eager", gatewaytest.Options{Follow: []string{"tech"}})
	want("eager", eager.WaitMessages(len(all)), all)
	some := e.Dial("some", gatewaytest.Options{Follow: []string{"*"}, Mute: []string{"odd"}})
	even := today(func(n int) bool { return n%2 == 0 })
	want("some", some.WaitMessages(len(even)), even)
	// Silent gets all and acknowledges the first ten.
	silent := e.Dial("silent", gatewaytest.Options{Follow: []string{"tech"}, Silent: true})
	got := silent.WaitMessages(len(all))
	silent.Send(map[string]any{"type": "ack", "upto": got[9].ID})
	silent.Sync()
	silent.Close()
	e.Follow("polls", []string{"odd"}, nil)
	odd := today(func(n int) bool { return n%2 == 1 })
	poll := func(query string, keys []string) {
		t.Helper()
		status, answer := e.HTTP("polls", "GET", "/v1/poll"+query, nil)
		var body struct{ Messages []gatewaytest.Frame }
		if status == 200 {
			if err := json.Unmarshal([]byte(answer), &body); err != nil {
				t.Fatal(err)
			}
		}
		want("polls", body.Messages, keys)
	}
	poll("?limit=5&ack=manual", odd[:5])
	poll("?limit=5", odd[:5])

	db.Exec(`INSERT INTO articles (id, title, tags) VALUES (100, 'new', '{tech}')`)
	eager.Until("the new one", func(f gatewaytest.Frame) bool { return string(f.Key) == `{"id":100}` && !f.Replay })
	harness.Eventually(t, "the new one is settled", func() (bool, any) { l := e.Status().Ledger; return l.Pairs == 0, l })
	e.Kill()
	e.Restart()

	poll("", odd[5:])
	poll("", nil)
	back := e.Dial("silent", gatewaytest.Options{})
	rest := back.WaitMessages(len(all) - 10 + 1)
	want("silent, who comes back", rest[:len(all)-10], all[10:])
	late := e.Dial("late", gatewaytest.Options{Follow: []string{"even"}})
	want("late", late.WaitMessages(len(even)), even)
	again := e.Dial("eager", gatewaytest.Options{})
	again.Welcome()
	again.Sync()
	repeated := slices.DeleteFunc(again.Messages(), func(f gatewaytest.Frame) bool { return string(f.Key) == `{"id":100}` }) // its acknowledgement may have died
	want("eager, who comes back", repeated, nil)
	e.AwaitSettled()
	if r := e.Run("audit"); r.Code != exitDone || !strings.Contains(r.Stdout, "It adds up.") {
		t.Errorf("audit ends with %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
	for _, r := range harness.Records(t, e.Brokers, harness.OfflineTopic) {
		if !strings.Contains(string(r.Value), `"title":"new"`) {
			t.Errorf("handed over: %s", r.Value)
		}
	}
}

// TestBackfillUnderLoadThroughKills kills the engine again and again while it
// reads today's articles for the first time and editors go on saving. What the
// journal then tells of each row leads, change by change, to the row as it is.
func TestBackfillUnderLoadThroughKills(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, pgtest.WithoutSlot())
	db.Exec(`INSERT INTO articles (id, title, tags, published_at)
		SELECT n, 'number ' || n, '{tech}', now() - n * '1s'::interval FROM generate_series(1, 8000) n`)
	db.Slot = db.Name + "_slot"
	db.CreateSlot(db.Slot)
	e := harness.Configure(t, harness.Options{DB: db, Env: []string{untilReached, "NEWSWIRE_POSTGRES_BACKFILL=24h"}})
	stop := edit(t, db)
	for _, pass := range []int{4, 6, 3, 5} {
		e.Arm(fmt.Sprintf("journal.commit=kill@%d", pass))
		e.Launch()
		if !e.Died(2 * time.Minute) {
			t.Fatalf("the engine made no %d commits", pass)
		}
	}
	e.Launch()
	e.AwaitReady()
	stop()
	wantTold(t, db, e)
}

// TestResyncUnderLoadThroughKills kills `newswire resync` again and again while
// editors go on saving.
func TestResyncUnderLoadThroughKills(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	e := harness.Start(t, harness.Options{DB: db})
	db.Exec(`INSERT INTO articles (id, title, tags) SELECT n, 'number ' || n, '{tech}' FROM generate_series(1, 8000) n`)
	harness.Eventually(t, "they are read", func() (bool, any) { at := e.Status().Journal.Head; return at >= 8000, at })
	e.Stop()
	db.Exec(`SELECT pg_drop_replication_slot('` + db.Slot + `')`)
	db.Exec(`UPDATE articles SET title = 'changed' WHERE id % 3 = 0; DELETE FROM articles WHERE id % 7 = 0;
		INSERT INTO articles (id, title, tags) SELECT n, 'missed', '{tech}' FROM generate_series(8001, 9000) n`)
	stop := edit(t, db)
	kills := 0
	for _, pass := range []int{3, 5, 4} { // what is left to tell may take fewer commits
		if r := harness.Run(t, e.Dir, []string{fmt.Sprintf("NEWSWIRE_FAULTS=journal.commit=kill@%d", pass)}, "resync"); r.Code != exitDone {
			kills++
		}
	}
	if kills == 0 {
		t.Fatal("no resync was killed")
	}
	if r := e.Run("resync"); r.Code != exitDone {
		t.Fatalf("resync ends with %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
	e.Launch()
	e.AwaitReady()
	stop()
	wantTold(t, db, e)
}

// edit is an editor who corrects, deletes and writes articles until told to stop.
func edit(t *testing.T, db *pgtest.DB) (stop func()) {
	t.Helper()
	conn := db.Connect()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		for n := 1; ctx.Err() == nil; n++ {
			_, err := conn.Exec(context.WithoutCancel(ctx), fmt.Sprintf(`UPDATE articles SET title = title || '.' WHERE id %% 997 = %d;
				DELETE FROM articles WHERE id = %d; INSERT INTO articles (id, title, tags, published_at) VALUES (%d, 'new', '{tech}', now())`,
				n%997, 8001-n, 10_000+n))
			if err != nil {
				done <- err
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
		}
		done <- nil
	}()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// wantTold stops the engine once it has read everything, and checks that its
// journal tells of each row, change by change, what leads to the row as it is.
func wantTold(t *testing.T, db *pgtest.DB, e *harness.Engine) {
	t.Helper()
	end := pgtest.Value[string](db, `SELECT pg_current_wal_insert_lsn()::text`)
	harness.Eventually(t, "everything is confirmed", func() (bool, any) {
		at := pgtest.Value[string](db, `SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1`, db.Slot)
		return pgtest.Value[bool](db, `SELECT $1::text::pg_lsn >= $2::text::pg_lsn`, at, end), at
	})
	e.Stop()

	told, ids := make(map[string]string), make(map[string]bool) // titles by key
	for _, f := range lines(t, e.Run("tail").Stdout) {
		key := string(f.Key)
		if _, published := told[key]; ids[f.ID] || published != (f.Action != "publish") {
			t.Errorf("%s of %s, which is published: %v; its id came before: %v", f.Action, key, published, ids[f.ID])
		}
		ids[f.ID] = true
		if f.Action == "retract" {
			delete(told, key)
		} else {
			told[key], _ = f.Data["title"].(string)
		}
	}
	want := make(map[string]string)
	for _, row := range pgtest.Values[string](db, `SELECT id || ' ' || title FROM articles`) {
		id, title, _ := strings.Cut(row, " ")
		want[`{"id":`+id+`}`] = title
	}
	if !maps.Equal(told, want) {
		t.Errorf("readers know %d articles, and the table has %d: %s", len(told), len(want), firstDifference(told, want))
	}
}

func firstDifference(got, want map[string]string) string {
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if title, ok := got[key]; !ok || title != want[key] {
			return fmt.Sprintf("%s is %q, and readers know %q (%v)", key, want[key], title, ok)
		}
	}
	for key, title := range got {
		if _, ok := want[key]; !ok {
			return fmt.Sprintf("%s is gone, and readers know %q", key, title)
		}
	}
	return ""
}
