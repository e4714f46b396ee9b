package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"newswire/ack/offline/kafkatest"
	"newswire/cdc/pgtest"
	"newswire/cmd/newswire/internal/harness"
	"newswire/fanout/journal"
	"newswire/gateway/gatewaytest"
)

// smallDisk mounts a file system of its own until the test has ended.
func smallDisk(t *testing.T, size int64) (dir string) {
	t.Helper()
	const loud = "SKIPPED, the promise \"intake waits before the disk is full\" is NOT tested on an engine: "
	if os.Getuid() != 0 {
		t.Skip(loud + "mounting a disk needs root")
	}
	image, dir := filepath.Join(t.TempDir(), "disk"), t.TempDir()
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, size)); err != nil {
		t.Fatal(err)
	}
	for _, step := range [][]string{{"mkfs.ext4", "-q", "-F", "-m", "0", image}, {"mount", "-o", "loop", image, dir}} {
		if out, err := exec.Command(step[0], step[1:]...).CombinedOutput(); err != nil {
			t.Skipf("%s%v: %s", loud, err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return dir
}

// fillDisk takes what is free but for so many bytes.
func fillDisk(t *testing.T, e *harness.Engine, left int64) (free func()) {
	t.Helper()
	name := filepath.Join(e.JournalDir(), "somebody-elses")
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := int64(0); ; { // little by little: the engine writes meanwhile
		d, err := journal.DiskOf(e.JournalDir())
		if err != nil {
			t.Fatal(err)
		}
		n := min(int64(d.Free)-left, left/2)
		if n <= 0 {
			break
		}
		err = syscall.Fallocate(int(f.Fd()), 0, size, n)
		if errors.Is(err, syscall.ENOSPC) { // it has written more
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		size += n
	}
	return func() {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFullDiskStopsIntakeAndNothingElse fills the disk of the journal from
// outside while articles are on their way: those that are in the journal are
// acknowledged and handed over, the slot is held and keeps the others, and they
// arrive when there is room.
func TestFullDiskStopsIntakeAndNothingElse(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, 400<<20)
	kafka := kafkatest.New(t, kfake.SeedTopics(1, "news-offline", "news-offline-cancelled"))
	db := pgtest.New(t)
	e := harness.Configure(t, harness.Options{DB: db, AckTimeout: 2 * time.Second, Brokers: kafka.ListenAddrs()})
	if err := os.Symlink(disk, e.JournalDir()); err != nil {
		t.Fatal(err)
	}
	e.Launch()
	e.AwaitReady()
	r := e.Dial("here", gatewaytest.Options{Follow: []string{"tech"}, Silent: true})
	r.Welcome()
	e.Follow("away", []string{"tech"}, nil)
	article(db, "before", "tech")
	before := r.WaitMessages(1)

	room := fillDisk(t, e, 8<<20)
	harness.Eventually(t, "intake to wait", func() (bool, any) {
		s := e.Status()
		return s.Journal.Disk.Low && strings.Contains(strings.Join(s.Reasons, "\n"), "so intake waits: free some space on the disk"), s
	})
	if n := e.Metric("newswire_journal_intake_waits"); n != 1 {
		t.Errorf("newswire_journal_intake_waits is %v", n)
	}
	connects := e.Metric("newswire_cdc_streams_total")
	article(db, "meanwhile", "tech")
	r.Send(map[string]any{"type": "ack", "ids": []string{before[0].ID}})
	e.AwaitSettled() // one acknowledged, one handed over
	if n := len(kafkatest.Collect(t, e.Brokers, "news-offline", kafkatest.Count(1))); n != 1 {
		t.Errorf("%d records for who is away, want 1", n)
	}
	if n := len(r.Messages()); n != 1 {
		t.Errorf("%d messages came in on a full disk", n-1)
	}
	if s := e.Status(); s.Ready || !s.Journal.Disk.Low {
		t.Errorf("ready on a full disk: %+v", s)
	}

	room()
	r.WaitMessages(2)
	harness.Eventually(t, "the engine to be ready", func() (bool, any) { s := e.Status(); return s.Ready, s })
	if n := e.Metric("newswire_cdc_streams_total"); n != connects {
		t.Errorf("the slot was read %v times anew while the disk was full", n-connects)
	}
	logs := e.Logs()
	for _, line := range []string{"intake waits for room on the journal's disk", "intake goes on: there is room"} {
		if n := strings.Count(logs, line); n != 1 {
			t.Errorf("the log says %d times %q, want once", n, line)
		}
	}
	for _, f := range r.Messages() {
		r.Send(map[string]any{"type": "ack", "ids": []string{f.ID}})
	}
	e.AwaitSettled()

	e.Kill()
	_ = os.Remove(filepath.Join(e.JournalDir(), "ballast"))
	room = fillDisk(t, e, 1<<20)
	result := e.Run("serve")
	if result.Code != exitFailed || strings.Count(result.Stderr, "\n") != 1 || !strings.Contains(result.Stderr, "the disk is nearly full") {
		t.Errorf("start on a full disk: %+v", result)
	}
	room()
	e.Launch()
	e.AwaitReady()
}
