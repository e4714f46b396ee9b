package doctor

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"newswire/fanout/journal"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"
)

// lines prints findings as one line each.
func lines(r *Report) (lines []string) {
	for _, f := range r.Findings {
		lines = append(lines, string(f.Level)+" "+f.Check+" "+f.Object+": "+f.Message+"; "+f.Remedy)
	}
	return lines
}

func TestClocksApart(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for _, c := range []struct {
		server float64 // seconds after now
		want   string
	}{
		{0.5, "ok clock clocks: the server's clock and ours agree; "},
		{-1.9, "ok clock clocks: the server's clock and ours agree; "},
		{33, "warn clock clocks: the server's clock is 32.0 s ahead of ours; let both machines keep time by NTP"},
		{-61.5, "warn clock clocks: the server's clock is 61.5 s behind ours; let both machines keep time by NTP"},
	} {
		e := &examination{Report: new(Report)}
		e.judgeClock(float64(now.Unix())+c.server, now, now.Add(time.Second)) // the way took a second
		if got := lines(e.Report); len(got) != 1 || got[0] != c.want {
			t.Errorf("%+.1f s: %q, want %q", c.server, got, c.want)
		}
	}
}

func TestSSLModeIsReadBack(t *testing.T) {
	for _, mode := range []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"} {
		for _, hosts := range []string{"db", "db,other"} {
			c, err := pgconn.ParseConfig("host=" + hosts + " user=u sslmode=" + mode)
			if err != nil {
				t.Fatal(err)
			}
			if got := sslMode(c); got != mode {
				t.Errorf("host=%s sslmode=%s is read back as %s", hosts, mode, got)
			}
		}
	}
}

func TestLoginIsToldFromItsFirstMessages(t *testing.T) {
	request := func(number byte, rest string) string {
		return "R\x00\x00\x00" + string(rune(8+len(rest))) + "\x00\x00\x00" + string(rune(number)) + rest
	}
	for _, c := range []struct{ from, to, want string }{
		{request(0, ""), "", loginNone},
		{request(3, ""), "p\x00\x00\x00\x0bsecret\x00", loginCleartext},
		{request(5, "salt"), "", loginMD5},
		{request(10, "SCRAM-SHA-256-PLUS\x00SCRAM-SHA-256\x00\x00"), "p\x00\x00\x00\x20SCRAM-SHA-256-PLUS\x00", loginBound},
		{request(10, "SCRAM-SHA-256-PLUS\x00SCRAM-SHA-256\x00\x00"), "p\x00\x00\x00\x20SCRAM-SHA-256\x00", loginSCRAM},
		{request(7, ""), "", loginOther},
		{"E\x00\x00\x00\x04", "", loginOther},
		{"", "", loginOther},
	} {
		var l login
		if _, err := l.from.Write([]byte(c.from)); err != nil {
			t.Fatal(err)
		}
		if _, err := l.to.Write([]byte(c.to)); err != nil {
			t.Fatal(err)
		}
		if got := l.method(); got != c.want {
			t.Errorf("%q, %q: %s, want %s", c.from, c.to, got, c.want)
		}
	}
}

func TestMinorVersionsWithHoles(t *testing.T) {
	for _, c := range []struct {
		version   int
		whitelist bool
		want      string
	}{
		{150018, false, "warn minor-version P: this minor version lets every role with REPLICATION load any library into the server; update to 15.19 or newer"},
		{160014, true, "ok minor-version P: no hole is known that matters here; "}, // mended by the vendor
		{180006, true, "ok minor-version P: no hole is known that matters here; "},
		{190000, true, "ok minor-version P: no hole is known that matters here; "},
		{140017, false, "warn minor-version P: this minor version can leave out changes of transactions that run while a publication is altered; update to 14.24 or newer"},
	} {
		e := &examination{Report: new(Report), version: c.version}
		e.minor("P", c.whitelist)
		if got := lines(e.Report); len(got) != 1 || got[0] != c.want {
			t.Errorf("%d: %q, want %q", c.version, got, c.want)
		}
	}
}

func TestJournalDirectory(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for at, want := range map[string]string{
		dir:                          "ok journal-dir " + dir + ": the directory can be written to; ",
		filepath.Join(dir, "a", "b"): "ok journal-dir " + filepath.Join(dir, "a", "b") + ": the directory is made at the first start; ",
		file:                         "fatal journal-dir " + file + ": the directory cannot be used: open " + file + ": not a directory; correct journal.dir, or make the directory for the engine's user",
	} {
		e := &examination{Report: new(Report), cfg: Config{JournalDir: at}}
		e.journalDir()
		if got := lines(e.Report); len(got) == 0 || got[0] != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if runtime.GOOS == "linux" { // there even root makes nothing
		e := &examination{Report: new(Report), cfg: Config{JournalDir: "/proc/x/y"}}
		e.journalDir()
		if got := lines(e.Report); len(got) != 1 || !strings.HasPrefix(got[0], "fatal journal-dir /proc: ") {
			t.Errorf("%q", got)
		}
	}
	if found, err := os.ReadDir(dir); err != nil || len(found) != 1 {
		t.Errorf("the directory holds %v, %v; want the file alone", found, err)
	}
	if os.Geteuid() != 0 { // who may write everywhere
		closed := filepath.Join(dir, "closed")
		if err := os.Mkdir(closed, 0o500); err != nil {
			t.Fatal(err)
		}
		e := &examination{Report: new(Report), cfg: Config{JournalDir: closed}}
		e.journalDir()
		if got := lines(e.Report); len(got) != 1 || got[0] != "fatal journal-dir "+closed+": we may not write here: permission denied; give it to the engine's user" {
			t.Errorf("%q", got)
		}
	}
}

func TestDisks(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct {
		disk    journal.Disk
		reserve journal.Size
		want    []string
	}{
		{journal.Disk{Free: 50 * gib, Size: 100 * gib}, 0, []string{"ok journal-disk /j: 50.0 GiB of 100 GiB are free; "}},
		{journal.Disk{Free: gib, Size: 100 * gib}, 0, []string{"warn journal-disk /j: 1.0 GiB of 100 GiB are free, and journal.reserve is 1.0 GiB; free some space, or put journal.dir on a larger disk: intake waits while less than journal.reserve is free"}},
		{journal.Disk{Free: gib, Size: 100 * gib}, gib / 2, []string{"ok journal-disk /j: 1.0 GiB of 100 GiB are free; "}},
		{journal.Disk{Free: gib / 4, Size: 100 * gib}, 0, []string{"fatal journal-disk /j: 256 MiB of 100 GiB are free; free some space, or put journal.dir on a larger disk: the journal is not opened on a disk so full"}},
		{journal.Disk{}, 0, nil},
		{journal.Disk{Kind: "NFS", Why: "which is elsewhere", Remote: true}, 0, []string{"fatal journal-disk /j: the file system is NFS, which is elsewhere; put journal.dir on a local disk"}},
		{journal.Disk{Kind: "tmpfs", Why: "which is gone tomorrow"}, 0, []string{"warn journal-disk /j: the file system is tmpfs, which is gone tomorrow; put journal.dir on a local disk"}},
	} {
		e := &examination{Report: new(Report)}
		e.judgeDisk("/j", c.disk, c.reserve)
		if diff := cmp.Diff(c.want, lines(e.Report)); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", c.disk, diff)
		}
	}
}

func TestKafkaSentencesAreFindings(t *testing.T) {
	e := &examination{Report: new(Report), cfg: Config{Kafka: func(context.Context) []string {
		return []string{"the topic is short; make it longer", "the topic is thin"}
	}}}
	e.kafka(t.Context())
	e.cfg.Kafka = func(context.Context) []string { return nil }
	e.kafka(t.Context())
	want := []string{
		"warn kafka Kafka: the topic is short; make it longer",
		"warn kafka Kafka: the topic is thin; ",
		"ok kafka Kafka: the topics keep hand-overs as they should; ",
	}
	if diff := cmp.Diff(want, lines(e.Report)); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

func TestReportPrints(t *testing.T) {
	var r Report
	r.ok("wal-level", "wal_level", "wal_level is logical")
	r.warn("kafka", "Kafka", "make it longer", "the topic is short")
	r.fatal("slot", "newswire", "make it", "it is missing")
	want := strings.Join([]string{
		"fatal  slot                    newswire: it is missing",
		"                               remedy: make it",
		"warn   kafka                   Kafka: the topic is short",
		"                               remedy: make it longer",
		"ok     wal-level               wal_level: wal_level is logical",
		"1 fatal, 1 to look at, 1 in order",
		"README.md has a page for each finding, under its name", "",
	}, "\n")
	if diff := cmp.Diff(want, r.String()); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	const head = `{"fatal":1,"warn":1,"ok":1,"findings":[{"check":"wal-level","level":"ok","object":"wal_level","message":"wal_level is logical","remedy":"","page":"README.md#wal-level"},`
	if !strings.HasPrefix(string(text), head) {
		t.Errorf("%s\nwant\n%s…", text, head)
	}
}
