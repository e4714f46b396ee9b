package slot_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"newswire/cdc/pgtest"
	"newswire/cdc/slot"
	"newswire/fanout/journal"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// connect logs in as the role that the product runs as.
func connect(t *testing.T, db *pgtest.DB) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), db.DSN)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) }) // a broken one is as closed
	return conn
}

func read(t *testing.T, db *pgtest.DB) slot.Status {
	t.Helper()
	s, err := slot.Read(t.Context(), connect(t, db), db.Name, db.Publication)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// stream reads from the slot until it is closed; it gives the process that
// serves it.
func stream(t *testing.T, db *pgtest.DB) (pid int32, hangUp func()) {
	t.Helper()
	conn, err := pgconn.Connect(t.Context(), db.DSN+"&replication=database&application_name=newswire")
	if err != nil {
		t.Fatal(err)
	}
	err = pglogrepl.StartReplication(t.Context(), conn, db.Slot, 0, pglogrepl.StartReplicationOptions{
		PluginArgs: []string{"proto_version '1'", "publication_names '" + db.Publication + "'"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return int32(conn.PID()), func() { _ = conn.Close(context.Background()) }
}

// write adds so many MiB to the log.
func write(db *pgtest.DB, mebibytes int) {
	_ = pgtest.Value[int](db, "SELECT count(pg_logical_emit_message(false, 'filler', repeat('x', 1 << 20))) FROM generate_series(1, $1::int)", mebibytes)
}

func TestStatusIsOneScreen(t *testing.T) {
	db := pgtest.New(t, pgtest.WithPublication("FOR TABLE articles WITH (publish = 'insert, update')"))
	s := read(t, db)
	if err := s.Measure(t.Context(), connect(t, db), time.Millisecond); err != nil {
		t.Fatal(err)
	}
	const position, size = `[0-9A-F]+/[0-9A-F]+`, `[0-9.]+ .?i?B`
	want := regexp.MustCompile(`^slot ` + db.Slot + ` \(pgoutput, database ` + db.Name + `\)   INACTIVE( since [0-9TZ:-]+)?   PostgreSQL [0-9.]+
  wal_status reserved   safe_wal unlimited   invalidation -(   failover no   synced no)?
  current ` + position + `   confirmed ` + position + ` \(` + size + ` behind\)   restart ` + position + ` \(` + size + ` kept\)
  write rate ` + size + `/s: never invalid, but an hour without reading keeps ` + size + ` more
  publication ` + db.Publication + `: public.articles 7 columns; insert update
  costs the server ` + size + ` of log and the catalog rows of [0-9]+ transactions; ` + "`newswire slot drop --confirm " + db.Slot + "`" + ` frees both
  OK
$`)
	if !want.MatchString(s.String()) {
		t.Errorf("screen:\n%s", s)
	}
}

func TestStatusNamesTheReader(t *testing.T) {
	db := pgtest.New(t)
	pid, hangUp := stream(t, db)
	defer hangUp()
	s := read(t, db)
	if s.Reader == nil || s.Reader.PID != pid || !strings.Contains(s.String(), fmt.Sprintf("   ACTIVE pid %d newswire   ", pid)) {
		t.Errorf("the reader is process %d, and the screen says\n%s", pid, s)
	}
	err := s.Drop(t.Context(), connect(t, db))
	want := fmt.Sprintf("replication slot is being read: %q by the PostgreSQL process %d for newswire; stop the engine first", db.Slot, pid)
	if !errors.Is(err, slot.ErrActive) || err.Error() != want {
		t.Errorf("drop of a slot that is read: %v\nwant %s", err, want)
	}
	if _, err := s.Advance(t.Context(), connect(t, db), s.Current.LSN); !errors.Is(err, slot.ErrActive) {
		t.Errorf("advance of a slot that is read: %v", err)
	}
}

func TestStatusInJSONHasTheServersNames(t *testing.T) {
	s := read(t, pgtest.New(t))
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"slot_name", "plugin", "database", "reader", "wal_status", "safe_wal_size", "max_slot_wal_keep_size", "retained_bytes", "catalog_xmin_age",
		"invalidation_reason", "conflicting", "inactive_since", "current_lsn", "confirmed_flush_lsn", "restart_lsn", "unread_bytes",
		"failover", "synced", "write_rate", "publication", "server_version", "server_version_num", "in_recovery",
	} {
		if _, ok := fields[name]; !ok {
			t.Errorf("no %s in %s", name, text)
		}
	}
	if fields["confirmed_flush_lsn"] != s.Confirmed.String() || fields["wal_status"] != "reserved" {
		t.Errorf("%s", text)
	}
}

func TestASlotOnTheWayToItsLoss(t *testing.T) {
	c := pgtest.NewCluster(t, map[string]string{
		"max_slot_wal_keep_size": "64MB", "checkpoint_timeout": "1h", // nobody but the test makes a checkpoint
	})
	db := pgtest.New(t, pgtest.On(c))
	seen := make(map[string]bool)
	// A reader that stands still, while the log grows by a few MiB at a time.
	for range 60 {
		s := read(t, db)
		alarms := s.Alarms()
		seen[s.WALStatus] = true
		switch share := float64(0); {
		case s.Lost():
			wantAlarm(t, s, alarms, slot.Fatal, fmt.Sprintf("replication slot %q is lost: PostgreSQL has removed log that it needed (max_slot_wal_keep_size)", s.Name))
			if !strings.Contains(s.String(), "  wal_status lost   safe_wal -   ") || !strings.Contains(s.String(), "  FATAL replication slot") {
				t.Errorf("screen:\n%s", s)
			}
			if seen["reserved"] && seen["unreserved"] {
				return
			}
			t.Fatalf("lost after %v", seen)
		case s.WALStatus == "unreserved":
			wantAlarm(t, s, alarms, slot.Critical, fmt.Sprintf("wal_status of slot %q is unreserved: the next checkpoint removes log that it still needs", s.Name))
		case s.SafeWAL == nil || s.Limit != 64<<20:
			t.Fatalf("safe_wal_size %v of %d", s.SafeWAL, s.Limit)
		default:
			share = float64(*s.SafeWAL) / float64(s.Limit)
			if share < 0.2 {
				wantAlarm(t, s, alarms, slot.Critical, fmt.Sprintf("slot %q is lost after %s more of log", s.Name, slot.Bytes(*s.SafeWAL)))
			} else if share < 0.5 {
				wantAlarm(t, s, alarms, slot.Warn, fmt.Sprintf("slot %q is lost after %s more of log, less than half of what it may keep", s.Name, slot.Bytes(*s.SafeWAL)))
			} else if len(alarms) > 0 {
				t.Errorf("alarms with %.0f %% left: %v", 100*share, alarms)
			}
		}
		write(db, 8)
		if s.WALStatus == "unreserved" {
			db.Exec("CHECKPOINT")
		}
	}
	t.Fatalf("the slot is not lost; seen: %v", seen)
}

func wantAlarm(t *testing.T, s slot.Status, alarms []slot.Alarm, level slot.Level, text string) {
	t.Helper()
	if len(alarms) == 0 || alarms[0].Level != level || alarms[0].Text != text || alarms[0].Check != "slot-wal" {
		t.Errorf("alarms %v, want %s %q first\n%s", alarms, level, text, s)
	}
}

func TestAlarms(t *testing.T) {
	healthy := func() slot.Status {
		s := slot.Status{Name: "n", Plugin: "pgoutput"}
		s.WALStatus, s.Limit = "reserved", -1
		return s
	}
	since, reason, lag := time.Now(), "idle_timeout", 2*time.Minute
	for name, c := range map[string]struct {
		change func(s *slot.Status)
		want   []string
	}{
		"none":     {func(*slot.Status) {}, nil},
		"extended": {func(s *slot.Status) { s.WALStatus, s.Retained = "extended", 3<<30 }, []string{`WARN slot-wal wal_status of slot "n" is extended: it keeps 3.0 GiB of log, more than max_wal_size`}},
		"unread":   {func(s *slot.Status) { s.Unread = 300 << 20 }, []string{`WARN slot-unread 300 MiB of log behind slot "n" is not read yet`}},
		"lag":      {func(s *slot.Status) { s.Reader = &slot.Reader{Lag: &lag} }, []string{`WARN slot-unread the reader of slot "n" confirms 2 min late`}},
		"idle":     {func(s *slot.Status) { s.InactiveSince, s.IdleFor = &since, 400 }, []string{`WARN slot-idle nobody has read slot "n" for 7 min, and the server keeps all log since`}},
		"away":     {func(s *slot.Status) { s.InactiveSince, s.IdleFor = &since, 86400 }, []string{`CRITICAL slot-idle nobody has read slot "n" for 24 h, and the server keeps all log since`}},
		"catalog":  {func(s *slot.Status) { s.CatalogXminAge = 150_000_000 }, []string{`WARN slot-catalog slot "n" holds back vacuum of the system catalogs for 150000000 transactions`}},
		"spill": {func(s *slot.Status) { s.Spill = &slot.Spill{Transactions: 3, Bytes: 2 << 30} }, []string{
			`WARN slot-spill decoding for slot "n" has put 2.0 GiB of 3 large transactions on the server's disk`,
		}},
		"timed out": {func(s *slot.Status) { s.WALStatus, s.Invalidation = "lost", &reason }, []string{
			`FATAL slot-wal replication slot "n" is lost: nobody read it for longer than idle_replication_slot_timeout (idle_timeout)`,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := healthy()
			c.change(&s)
			var got []string
			for _, a := range s.Alarms() {
				got = append(got, fmt.Sprintf("%s %s %s", a.Level, a.Check, a.Text))
				if a.Remedy == "" {
					t.Errorf("%s has no remedy", a.Text)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("alarms (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTheOutlookCountsFromTheRate(t *testing.T) {
	s := slot.Status{Name: "n"}
	s.Limit = 1 << 30
	safe := int64(600 << 20)
	s.WALStatus, s.SafeWAL = "reserved", &safe
	for rate, want := range map[float64]string{
		1 << 20: "write rate 1.0 MiB/s: invalid in 10 min at the earliest if reading stops now\n",
		0:       "write rate 0 B/s: invalid after 600 MiB more\n",
		1e-6:    "write rate 0 B/s: invalid in 11574 days at the earliest if reading stops now\n",
	} {
		if s.SetRate(rate); !strings.Contains(s.String(), want) {
			t.Errorf("%g bytes a second: no %q in\n%s", rate, want, s)
		}
	}
	s.SafeWAL, s.Limit = nil, -1
	for want, disk := range map[string]*slot.Disk{
		"write rate 1.0 MiB/s: never invalid, but an hour without reading keeps 3.5 GiB more\n":                nil,
		"write rate 1.0 MiB/s: never invalid, but the disk of pg_wal is full in 20 min if reading stops now\n": {Free: 1200 << 20, Size: 1 << 40},
	} {
		s.Disk = disk
		if s.SetRate(1 << 20); !strings.Contains(s.String(), want) {
			t.Errorf("without a limit, disk %v: no %q in\n%s", disk, want, s)
		}
	}
}

func TestAMissingSlot(t *testing.T) {
	db := pgtest.New(t, pgtest.WithoutSlot())
	if _, err := slot.Read(t.Context(), connect(t, db), "missing", db.Publication); !errors.Is(err, slot.ErrMissing) {
		t.Errorf("Read = %v", err)
	}
}

func TestCreateLeavesAloneWhatStandsAsWanted(t *testing.T) {
	db := pgtest.New(t, pgtest.WithoutSlot())
	conn := connect(t, db)
	_, err := slot.Create(t.Context(), conn, db.Name, "missing")
	const want = "publication \"missing\" does not exist, and a slot cannot read changes older than its publication; run `newswire setup --apply`"
	if err == nil || err.Error() != want {
		t.Errorf("Create without publication: %v\nwant %s", err, want)
	}
	for _, wanted := range []bool{true, false} {
		if created, err := slot.Create(t.Context(), conn, db.Name, db.Publication); err != nil || created != wanted {
			t.Errorf("created %t, %v; want %t", created, err, wanted)
		}
	}
	if s := read(t, db); s.Version >= 170000 && (s.Enabled == nil || !*s.Enabled) {
		t.Error("the slot does not fail over")
	}
	db.Exec("SELECT pg_drop_replication_slot('" + db.Name + "')")
	db.Exec("SELECT pg_create_logical_replication_slot('" + db.Name + "', 'test_decoding')")
	_, err = slot.Create(t.Context(), conn, db.Name, db.Publication)
	if err == nil || err.Error() != fmt.Sprintf(`replication slot %q exists with the plugin "test_decoding", not pgoutput; choose another name in postgres.slot`, db.Name) {
		t.Errorf("Create beside another plugin's: %v", err)
	}
}

func TestForeseeCountsWhatIsLost(t *testing.T) {
	db := pgtest.New(t)
	start := read(t, db)
	db.Exec("INSERT INTO articles (title) VALUES ('one'), ('two')")
	db.Exec("UPDATE articles SET title = 'three' WHERE title = 'two'")
	s := read(t, db)
	conn := connect(t, db)
	loss := s.Foresee(t.Context(), conn, s.Current.LSN)
	if loss.Rows == nil || *loss.Rows != (slot.Rows{Commits: 2, Inserts: 2, Updates: 1}) || loss.From != start.Confirmed.LSN {
		t.Errorf("loss %+v, rows %+v", loss, loss.Rows)
	}
	if after := read(t, db); after.Confirmed != s.Confirmed {
		t.Errorf("counting has moved the slot from %s to %s", s.Confirmed, after.Confirmed)
	}
	if n := pgtest.Value[int](db, "SELECT coalesce(sum(total_txns), 0)::int FROM pg_stat_replication_slots WHERE slot_name = $1", db.Slot); n != 0 {
		t.Errorf("counting made the server count %d transactions as read", n)
	}
	text := fmt.Sprintf("behind slot %q, from %s to %s, lie %s of log that it has not confirmed, with 2 commits of 2 inserts, 1 update, 0 deletes and 0 truncates of published tables",
		s.Name, loss.From, loss.To, slot.Bytes(int64(loss.To-loss.From)))
	unknown := "how much of it the journal has is not known: no engine answers on gateway.admin, and no journal can be read in journal.dir"
	if diff := cmp.Diff([]string{text, unknown}, loss.Sentences()); diff != "" {
		t.Errorf("sentences (-want +got):\n%s", diff)
	}
	empty, behind, ahead := journal.LSN(0), loss.From, loss.To
	loss.Journal = &empty
	if got, want := loss.Sentences()[1], "journal.dir holds no journal, or an empty one: nothing of it is there"; got != want || loss.None() {
		t.Errorf("%s, want %s", got, want)
	}
	loss.Journal = &behind
	if got, want := loss.Sentences()[1], fmt.Sprintf("the journal ends at %s: what lies behind is lost, and the engine stops there until `newswire resync`", behind); got != want || loss.None() {
		t.Errorf("%s, want %s", got, want)
	}
	loss.Journal = &ahead
	if got, want := loss.Sentences()[1], fmt.Sprintf("the journal has everything up to %s, so none of it is lost", ahead); got != want || !loss.None() {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestAdvanceRefusesWhatCannotBe(t *testing.T) {
	db := pgtest.New(t)
	db.Exec("INSERT INTO articles (title) VALUES ('skipped')")
	s := read(t, db)
	conn := connect(t, db)
	for to, want := range map[journal.LSN]string{
		s.Confirmed.LSN - 1:   fmt.Sprintf("replication slot %q stands at %s and cannot go back to %s; name a later position", s.Name, s.Confirmed, s.Confirmed.LSN-1),
		s.Current.LSN + 1<<30: fmt.Sprintf("the server's log ends at %s, before %s; name a position up to there", s.Current, s.Current.LSN+1<<30),
	} {
		if _, err := s.Advance(t.Context(), conn, to); err == nil || err.Error() != want {
			t.Errorf("advance to %s: %v\nwant %s", to, err, want)
		}
	}
	end, err := s.Advance(t.Context(), conn, s.Current.LSN)
	if err != nil || end != s.Current {
		t.Fatalf("advance to %s: %s, %v", s.Current, end, err)
	}
	if after := read(t, db); after.Confirmed != s.Current {
		t.Errorf("the slot stands at %s, want %s", after.Confirmed, s.Current)
	}
	if err := s.Drop(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	if n := pgtest.Value[int](db, "SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1", db.Slot); n != 0 {
		t.Error("the slot is still there")
	}
}

func TestSizesAndTimesReadWell(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 4198: "4.1 KiB", 812 << 20: "812 MiB", 5 << 40: "5.0 TiB", -80 << 20: "-80.0 MiB",
	} {
		if got := slot.Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %s, want %s", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		300 * time.Millisecond: "0.3 s", 11 * time.Minute: "11 min", 3 * time.Hour: "3 h", 72 * time.Hour: "3 days",
	} {
		if got := slot.Duration(d); got != want {
			t.Errorf("Duration(%d) = %s, want %s", d, got, want)
		}
	}
}

func TestTheDiskOfTheLogIsSeenByWhoMay(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells")
	}
	db := pgtest.New(t)
	if s := read(t, db); s.Disk != nil {
		t.Errorf("a role that may not know where the data is sees the disk %+v", s.Disk)
	}
	db.Exec("GRANT pg_monitor TO " + db.Role)
	if s := read(t, db); s.Disk == nil || s.Disk.Free <= 0 || s.Disk.Free > s.Disk.Size {
		t.Errorf("the disk is %+v", s.Disk)
	}
}

func TestSpillIsTold(t *testing.T) {
	db := pgtest.New(t)
	conn := connect(t, db)
	db.Exec("INSERT INTO articles (title) SELECT repeat('x', 1000) FROM generate_series(1, 5000)")
	_, err := conn.Exec(t.Context(), `SET logical_decoding_work_mem = '64kB';
		SELECT count(*) FROM pg_logical_slot_get_binary_changes('`+db.Slot+`', NULL, NULL, 'proto_version', '1', 'publication_names', '`+db.Publication+`')`)
	if err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 1000 { // the counters come a moment later
		if s := read(t, db); s.Spill != nil && s.Spill.Bytes > 0 {
			if !strings.Contains(s.String(), "in 1 large transaction went by way of the server's disk\n") {
				t.Errorf("screen:\n%s", s)
			}
			return
		}
		<-tick.C
	}
	t.Error("no spill is told")
}
