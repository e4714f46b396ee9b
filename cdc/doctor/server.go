package doctor

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"newswire/cdc/slot"
)

// Versions that differ in what there is to examine, as server_version_num.
const (
	oldestServer = 140000 // whose pgoutput can send messages
	version15    = 150000 // column lists and row filters
	version17    = 170000 // slots that fail over
	version18    = 180000 // idle_replication_slot_timeout; a missing publication is passed over
)

// fixes are minor versions that mend a hole that matters here, by major
// version: the first that has the fix.
var fixes = []struct {
	since map[int]int
	hole  string
}{
	{map[int]int{14: 18, 15: 13, 16: 9, 17: 5}, "can leave out changes of transactions that run while a publication is altered"},
	{map[int]int{14: 24, 15: 19, 16: 15, 17: 11, 18: 6}, "lets every role with REPLICATION load any library into the server"},
}

// server examines its version, and where the log ends as we begin.
func (e *examination) server(ctx context.Context) error {
	var text string
	var recovery, whitelist bool
	err := e.conn.QueryRow(ctx, `SELECT current_setting('server_version_num')::int, split_part(current_setting('server_version'), ' ', 1),
		pg_catalog.pg_is_in_recovery(), EXISTS (SELECT FROM pg_catalog.pg_settings WHERE name = 'output_plugin_libraries')`).
		Scan(&e.version, &text, &recovery, &whitelist)
	if err != nil {
		return err
	}
	object := "PostgreSQL " + text
	if e.version < oldestServer {
		e.fatal("version", object, fmt.Sprintf("upgrade to version %d or later", oldestServer/10000),
			"PostgreSQL %d is too old: newswire needs version %d or later", e.version/10000, oldestServer/10000)
	} else {
		e.ok("version", object, "the version is supported")
	}
	e.minor(object, whitelist)
	if recovery {
		e.fatal("recovery", object, "name the primary in postgres.dsn", "the server is a standby, and the engine reads a primary only")
	}
	e.first, err = slot.Take(ctx, e.conn)
	return err
}

// minor compares with the releases that have the fixes. A vendor may mend
// earlier: the setting that came with the newest fix shows it.
func (e *examination) minor(object string, whitelist bool) {
	major, minor := e.version/10000, e.version%10000
	for i, f := range fixes {
		first, known := f.since[major]
		newest := i == len(fixes)-1
		if known && minor < first && !(newest && whitelist) {
			e.warn("minor-version", object, fmt.Sprintf("update to %d.%d or newer", major, fixes[len(fixes)-1].since[major]),
				"this minor version %s", f.hole)
			return
		}
	}
	e.ok("minor-version", object, "no hole is known that matters here")
}

// settings examines what the DBA has set.
func (e *examination) settings(ctx context.Context) error {
	var level, plugins string
	var senders, sending, slots, slotted, timeout, idle int
	err := e.conn.QueryRow(ctx, `SELECT current_setting('wal_level'), coalesce(current_setting('output_plugin_libraries', true), ''),
		current_setting('max_wal_senders')::int, (SELECT count(*) FROM pg_catalog.pg_stat_replication),
		current_setting('max_replication_slots')::int, (SELECT count(*) FROM pg_catalog.pg_replication_slots),
		(SELECT setting::int FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout'),
		coalesce((SELECT setting::int * CASE unit WHEN 'min' THEN 60 ELSE 1 END
			FROM pg_catalog.pg_settings WHERE name = 'idle_replication_slot_timeout'), 0)`).
		Scan(&level, &plugins, &senders, &sending, &slots, &slotted, &timeout, &idle)
	if err != nil {
		return err
	}
	if level == "logical" {
		e.ok("wal-level", "wal_level", "wal_level is logical")
	} else {
		e.fatal("wal-level", "wal_level", "run ALTER SYSTEM SET wal_level = 'logical' and restart PostgreSQL",
			"wal_level is %s, which carries no row changes", level)
	}
	present, own, err := e.ownUse(ctx)
	if err != nil {
		return err
	}
	e.room("wal-senders", "max_wal_senders", "replication connections", senders, sending, own,
		"it streams over one, and reads what was published before as of the snapshot of another", true)
	unknown := "without a spare one what was published before stays unknown, so that the next change of an old article counts as its publication"
	if e.cfg.Backfill {
		unknown = "postgres.backfill waits for a spare one"
	}
	e.room("replication-slots", "max_replication_slots", "replication slots", slots, slotted, present, unknown, e.cfg.Backfill)
	e.timeouts(time.Duration(timeout)*time.Millisecond, time.Duration(idle)*time.Second)
	if plugins != "" && !lists(plugins, "pgoutput") {
		e.fatal("output-plugins", "output_plugin_libraries", "add pgoutput to output_plugin_libraries and run SELECT pg_reload_conf()",
			"output_plugin_libraries is %q, without pgoutput, which the slot is read by", plugins)
	}
	return nil
}

// ownUse tells whether our slot exists, and whether somebody reads it: then a
// place is taken that is ours.
func (e *examination) ownUse(ctx context.Context) (present, active bool, err error) {
	err = e.conn.QueryRow(ctx, `SELECT count(*) > 0, coalesce(bool_or(active), false) FROM pg_catalog.pg_replication_slots WHERE slot_name = $1::text`,
		e.cfg.Slot).Scan(&present, &active)
	return present, active, err
}

func (e *examination) timeouts(sender, idle time.Duration) {
	if sender == 0 {
		e.warn("sender-timeout", "wal_sender_timeout", "run ALTER SYSTEM SET wal_sender_timeout = '60s' and SELECT pg_reload_conf()",
			"wal_sender_timeout is 0, so a reader whose machine has vanished holds the slot for ever")
	} else {
		e.ok("sender-timeout", "wal_sender_timeout", "a reader that has vanished gives up the slot after %s", sender)
	}
	if e.version < version18 {
		return
	}
	if idle > 0 {
		e.warn("idle-timeout", "idle_replication_slot_timeout", "set it above the longest time that the engine may be away, or to 0",
			"an engine that is away for longer than %s finds its slot lost", idle)
	} else {
		e.ok("idle-timeout", "idle_replication_slot_timeout", "a slot that nobody reads is kept")
	}
}

// clockMost is how far clocks may be apart before times of messages mislead.
const clockMost = 2 * time.Second

// clock compares the server's with ours; the way there and back is not counted.
func (e *examination) clock(ctx context.Context) error {
	var seconds float64
	before := time.Now()
	if err := e.conn.QueryRow(ctx, "SELECT extract(epoch FROM pg_catalog.clock_timestamp())::float8").Scan(&seconds); err != nil {
		return err
	}
	after := time.Now()
	e.judgeClock(seconds, before, after)
	return nil
}

func (e *examination) judgeClock(server float64, before, after time.Time) {
	unix := func(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }
	ahead := 0.0 // of ours, as far as the way does not explain it
	switch {
	case server > unix(after):
		ahead = server - unix(after)
	case server < unix(before):
		ahead = server - unix(before)
	}
	switch {
	case math.Abs(ahead) <= clockMost.Seconds():
		e.ok("clock", "clocks", "the server's clock and ours agree")
	case ahead > 0:
		e.warn("clock", "clocks", "let both machines keep time by NTP", "the server's clock is %.1f s ahead of ours", ahead)
	default:
		e.warn("clock", "clocks", "let both machines keep time by NTP", "the server's clock is %.1f s behind ours", -ahead)
	}
}

// lists tells whether a setting that is a list of names has the name.
func lists(setting, name string) bool {
	return slices.ContainsFunc(strings.Split(setting, ","), func(s string) bool { return strings.Trim(s, ` "`) == name })
}
