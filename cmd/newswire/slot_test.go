package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"newswire/cdc/pgtest"
	"newswire/cmd/newswire/internal/harness"
)

func standing(db *pgtest.DB) (exists bool) {
	return pgtest.Value[bool](db, "SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1)", db.Name)
}

func TestSlotStatus(t *testing.T) {
	db := pgtest.New(t)
	configuration := examined(db, "embedded")
	code, stdout, stderr := call(t, configuration, nil, "slot", "status")
	if code != exitDone || stderr != "" || !strings.HasPrefix(stdout, "slot "+db.Slot+" (pgoutput, database "+db.Name+")   INACTIVE") || !strings.HasSuffix(stdout, "\n  OK\n") {
		t.Errorf("code %d, %s\n%s", code, stderr, stdout)
	}
	code, stdout, stderr = call(t, configuration, nil, "slot", "status", "--json")
	var status struct {
		WALStatus string `json:"wal_status"`
		Rate      *struct {
			BytesPerSecond float64 `json:"bytes_per_second"`
		} `json:"write_rate"`
	}
	if err := json.Unmarshal([]byte(stdout), &status); err != nil || code != exitDone || status.WALStatus != "reserved" || status.Rate == nil {
		t.Errorf("code %d, %v, %s\n%s", code, err, stderr, stdout)
	}
	db.Exec("SELECT pg_drop_replication_slot('" + db.Slot + "')")
	code, _, stderr = call(t, configuration, nil, "slot", "status")
	want := fmt.Sprintf("newswire: replication slot %q does not exist; before the first start run `newswire setup --apply`, later `newswire resync`\n", db.Name)
	if code != exitFailed || stderr != want {
		t.Errorf("without the slot: code %d, %s", code, stderr)
	}
}

func TestSlotCreateAndDrop(t *testing.T) {
	db := pgtest.New(t, pgtest.WithoutSlot())
	configuration := examined(db, "embedded")
	for _, want := range []string{"done: replication slot " + db.Name, "left alone: replication slot " + db.Name} {
		code, stdout, stderr := call(t, configuration, nil, "slot", "create")
		if code != exitDone || !strings.HasPrefix(stdout, want) || !standing(db) {
			t.Errorf("create: code %d, %s%s, want %s", code, stdout, stderr, want)
		}
	}
	db.Exec("INSERT INTO articles (title) VALUES ('unread')")
	command := "to go ahead type: newswire slot drop --confirm " + db.Name + "\n"
	for _, c := range []struct{ confirm, last string }{
		{"", "newswire: nothing was changed; " + command},
		{"other", `newswire: --confirm "other" is not the slot's name; ` + command},
	} {
		code, stdout, stderr := call(t, configuration, nil, "slot", "drop", "--confirm="+c.confirm)
		if code != exitUsage || stdout != "" || !standing(db) || !strings.HasSuffix(stderr, c.last) ||
			!strings.Contains(stderr, "with 1 commit of 1 insert, 0 updates, 0 deletes and 0 truncates of published tables\n") ||
			!strings.Contains(stderr, "newswire: without the slot nothing that is committed from then on is read either\n") {
			t.Errorf("drop --confirm=%s: code %d, %s%s", c.confirm, code, stdout, stderr)
		}
	}
	code, stdout, stderr := call(t, configuration, nil, "slot", "drop", "--confirm", db.Name)
	if code != exitDone || standing(db) || stdout != "done: replication slot "+db.Name+" is gone, and the server keeps no log for it\n" {
		t.Errorf("drop: code %d, %s%s", code, stdout, stderr)
	}
}

func TestSlotAdvance(t *testing.T) {
	db := pgtest.New(t)
	configuration := examined(db, "embedded")
	before := db.ConfirmedFlush()
	db.Exec("INSERT INTO articles (title) VALUES ('skipped')")
	to := db.CurrentLSN().String()
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{nil, exitUsage, "newswire: name the position with --to, such as --to 0/1A2B3C4\n"},
		{[]string{"--to", "here"}, exitUsage, `newswire: --to "here": `},
		{[]string{"--to", "0/1", "--confirm", db.Name}, exitFailed, fmt.Sprintf("newswire: replication slot %q stands at %s and cannot go back to 0/1; name a later position\n", db.Name, before)},
		{[]string{"--to", "FFFF/0", "--confirm", db.Name}, exitFailed, "newswire: the server's log ends at "},
		{[]string{"--to", to}, exitUsage, fmt.Sprintf("newswire: behind slot %q, from %s to %s, lie ", db.Name, before, to)},
	} {
		code, stdout, stderr := call(t, configuration, nil, append([]string{"slot", "advance"}, c.args...)...)
		if code != c.code || stdout != "" || !strings.HasPrefix(stderr, c.want) {
			t.Errorf("advance %v: code %d, %s%s, want %s", c.args, code, stdout, stderr, c.want)
		}
	}
	if at := db.ConfirmedFlush(); at != before {
		t.Errorf("the slot has moved from %s to %s", before, at)
	}
	code, stdout, stderr := call(t, configuration, nil, "slot", "advance", "--to", to, "--confirm", db.Name)
	if want := fmt.Sprintf("done: replication slot %s stands at %s, before at %s\n", db.Name, to, before); code != exitDone || stdout != want {
		t.Errorf("advance: code %d, %s%s, want %s", code, stdout, stderr, want)
	}
}

func TestSlotOfARunningEngineIsLeftAlone(t *testing.T) {
	db := pgtest.New(t)
	e := harness.Start(t, harness.Options{DB: db})
	for _, args := range [][]string{{"slot", "drop", "--confirm", db.Slot}, {"slot", "advance", "--to", "0/1", "--confirm", db.Slot}} {
		r := harness.Run(t, e.Dir, nil, args...)
		want := fmt.Sprintf("newswire: replication slot is being read: %q by the PostgreSQL process ", db.Slot)
		if r.Code != exitFailed || !strings.HasPrefix(r.Stderr, want) || !strings.HasSuffix(r.Stderr, " for newswire; stop the engine first\n") || !standing(db) {
			t.Errorf("%v: code %d, %s%s", args, r.Code, r.Stdout, r.Stderr)
		}
	}
	e.Stop()
	r := harness.Run(t, e.Dir, nil, "slot", "drop")
	// What the engine has read it has in its journal, which can be read now.
	if r.Code != exitUsage || !strings.Contains(r.Stderr, "newswire: the journal has everything up to ") && !strings.Contains(r.Stderr, "newswire: the journal ends at ") &&
		!strings.Contains(r.Stderr, "lies nothing that it has not confirmed") {
		t.Errorf("drop after the engine: code %d, %s", r.Code, r.Stderr)
	}
	// A new slot behind a journal that was read from another lacks what came in between.
	db.Exec("SELECT pg_drop_replication_slot('" + db.Slot + "')")
	r = harness.Run(t, e.Dir, nil, "slot", "create")
	if r.Code != exitUsage || standing(db) || !strings.HasPrefix(r.Stderr, "newswire: the journal ends at ") ||
		!strings.HasSuffix(r.Stderr, "newswire: nothing was changed; to go ahead type: newswire slot create --confirm "+db.Slot+"\n") {
		t.Errorf("create beside a journal: code %d, %s%s", r.Code, r.Stdout, r.Stderr)
	}
	if r = harness.Run(t, e.Dir, nil, "slot", "create", "--confirm", db.Slot); r.Code != exitDone || !standing(db) {
		t.Errorf("create --confirm: code %d, %s%s", r.Code, r.Stdout, r.Stderr)
	}
}
