package journal

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const mib = 1 << 20

func TestReserveSuitsTheDisk(t *testing.T) {
	for _, c := range []struct{ disk, want Size }{
		{64 * mib, 32 * mib},
		{1 << 30, 128 * mib},
		{10 << 30, 512 * mib},
		{4 << 40, 1 << 30},
		{0, 0},
	} {
		if got := (Disk{Size: c.disk}).Reserve(); got != c.want {
			t.Errorf("of %s: %s, want %s", c.disk, got, c.want)
		}
	}
}

func TestStartRefusesAnUnfitDisk(t *testing.T) {
	for _, c := range []struct {
		name string
		disk Disk
		held Size
		want string // "" for none
	}{
		{"room", Disk{Free: 200 * mib, Size: 1 << 30}, 0, ""},
		{"less than the reserve", Disk{Free: 70 * mib, Size: 1 << 30}, 0, ""},
		{"held by the ballast", Disk{Free: 10 * mib, Size: 1 << 30}, 64 * mib, ""},
		{"nearly full", Disk{Free: 10 * mib, Size: 1 << 30}, 0, `journal.dir "/j": the disk is nearly full, 10.0 MiB of 1.0 GiB are free: free 54.0 MiB more, or put it on a larger disk`},
		{"of another machine", Disk{Free: 1 << 30, Size: 1 << 30, Kind: "NFS", Why: "which is elsewhere", Remote: true}, 0, `journal.dir "/j" is on NFS, which is elsewhere: put it on a local disk`},
		{"in memory", Disk{Free: 1 << 30, Size: 1 << 30, Kind: "tmpfs"}, 0, ""},
		{"that does not tell", Disk{}, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.disk.fit("/j", 128*mib, c.held)
			switch {
			case c.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.want != "" && (err == nil || err.Error() != c.want || !errors.Is(err, ErrDisk)):
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// watched replaces the disk under a journal by one of 1 GiB, of which free says
// how much nobody has taken; the ballast takes of it.
func watched(j *Journal, free *atomic.Int64) {
	j.ground.reserve, j.ground.ballast = 128*mib, 64*mib
	j.ground.disk = func() (Disk, error) {
		return Disk{Free: Size(free.Load()) - BallastIn(j.ground.dir), Size: 1 << 30}, nil
	}
	_ = dropBallast(j.ground.dir) // that Open has made on the real disk
	j.ground.at.Store(&Room{Free: 1 << 30, Size: 1 << 30, Reserve: 128 * mib})
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for begun := time.Now(); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Since(begun) > patience {
			t.Fatalf("%s: not after %s", what, patience)
		}
	}
}

// settles tells whether do returns nil within a while; it goes on otherwise,
// and its outcome comes then.
func settles(do func() error) (outcome chan error, now bool) {
	outcome = make(chan error, 1)
	go func() { outcome <- do() }()
	select {
	case err := <-outcome:
		outcome <- err
		return outcome, err == nil
	case <-time.After(3 * lookEvery):
		return outcome, false
	}
}

// TestIntakeWaitsBeforeTheDiskIsFull fills the disk step by step: first commits
// wait and all else goes on, then the ballast goes, then nothing is written;
// with room everything goes on by itself and nothing is missing.
func TestIntakeWaitsBeforeTheDiskIsFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var free atomic.Int64
	free.Store(900 * mib)
	j, shut := open(t, dir)
	watched(j, &free)
	stop := run(t, j)
	mustAppend(t, j, commit(1, 10, 2, 100))
	await(t, "the ballast", func() bool { return j.Room().Ballast == 64*mib && BallastIn(dir) == 64*mib })

	free.Store(127 * mib)
	await(t, "the reserve to be touched", func() bool { return j.Room().Low })
	appended, now := settles(func() error { return j.Append(context.Background(), commit(1, 20, 2, 100)) })
	spooled, alsoNow := settles(func() error { return j.FillRows(context.Background(), rowsOf("r", 20_000)) })
	if now || alsoNow {
		t.Error("something came in although the reserve is touched")
	}
	if err := j.Full(); err == nil || !strings.Contains(err.Error(), "127 MiB of 1.0 GiB are free, less than journal.reserve (128 MiB), so intake waits") {
		t.Errorf("Full() = %v", err)
	}
	if err := j.ApplySync(deadline(t), set("k", "1")); err != nil {
		t.Errorf("an acknowledgement is not saved: %v", err)
	}
	if _, err := j.AppendChange(deadline(t), Change{Name: "u", Reader: 1, Follow: []string{"a"}}, Update{}); err != nil {
		t.Errorf("a change of subscriptions is not taken: %v", err)
	}
	if err := j.Advance(deadline(t), 15); err != nil {
		t.Errorf("the position does not move: %v", err)
	}

	free.Store(80 * mib)
	await(t, "the ballast to be given up", func() bool { return BallastIn(dir) == 0 && j.Room().Ballast == 0 })
	if err := j.ApplySync(deadline(t), set("k", "2")); err != nil {
		t.Errorf("with the ballast's room: %v", err)
	}

	free.Store(5 * mib)
	await(t, "writes to wait", func() bool { return j.Room().Out })
	applied, now := settles(func() error { return j.ApplySync(context.Background(), set("k", "3")) })
	if now {
		t.Error("something was written to a full disk")
	}

	free.Store(900 * mib)
	for _, outcome := range []chan error{appended, spooled, applied} {
		if err := <-outcome; err != nil {
			t.Errorf("what has waited: %v", err)
		}
	}
	if err := j.Full(); err != nil {
		t.Errorf("Full() = %v with room", err)
	}
	await(t, "the ballast to be back", func() bool { return BallastIn(dir) == 64*mib })
	stop()
	shut()
	j, _ = open(t, dir)
	if got, ok := get(t, j, "k"); !ok || got != "3" {
		t.Errorf("the record is %q, want the last one", got)
	}
	if head := j.Head(); head != 5 {
		t.Errorf("head %d, want 5", head)
	}
}

// TestAFullDiskEndsCleanly ends the journal while nothing can be written: what
// was taken and is not durable is told so, and is not there afterwards.
func TestAFullDiskEndsCleanly(t *testing.T) {
	t.Parallel()
	var free atomic.Int64
	free.Store(mib)
	j, shut := open(t, t.TempDir())
	watched(j, &free)
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- j.Run(ctx) }()
	await(t, "writes to wait", func() bool { return j.Room().Out })
	applied, now := settles(func() error { return j.ApplySync(context.Background(), set("k", "1")) })
	if now {
		t.Error("something was written to a full disk")
	}
	cancel()
	for what, err := range map[string]error{"Run": <-ran, "ApplySync": <-applied} {
		if err == nil || !strings.Contains(err.Error(), "the disk is full (1.0 MiB of 1.0 GiB are free)") {
			t.Errorf("%s: %v, want the full disk", what, err)
		}
	}
	shut()
}

func rowsOf(prefix string, n int) func(yield func(Row) bool) {
	return func(yield func(Row) bool) {
		for i := range n {
			if !yield(Row{[]byte(prefix + string(rune('a'+i%26)) + Size(i).String()), make([]byte, 100)}) {
				return
			}
		}
	}
}

// smallDisk mounts a file system of its own on an image of so many bytes.
func smallDisk(t *testing.T, size int64) (dir string) {
	t.Helper()
	const loud = "SKIPPED, the promise \"intake waits before the disk is full\" is NOT tested on a disk: "
	if os.Getuid() != 0 {
		t.Skip(loud + "mounting one needs root")
	}
	image := filepath.Join(t.TempDir(), "disk")
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, size), command("mkfs.ext4", "-q", "-F", "-m", "0", image)); err != nil {
		t.Fatal(err)
	}
	dir, _, err := mount(t, image)
	if err != nil {
		t.Skip(loud + err.Error())
	}
	return dir
}

// TestFullDiskIsSurvived runs on a disk of its own which somebody else fills to
// the last byte, under load.
func TestFullDiskIsSurvived(t *testing.T) {
	t.Parallel()
	mounted := smallDisk(t, 400*mib)
	dir, filler := filepath.Join(mounted, "journal"), filepath.Join(mounted, "filler")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	j, end := start(t, dir)
	await(t, "the ballast", func() bool { return BallastIn(dir) > 0 })
	ctx, cancel := context.WithCancel(t.Context())
	var appended atomic.Uint64
	var held sync.Mutex // while a commit is appended
	load := make(chan error, 1)
	go func() {
		for lsn := LSN(10); ; lsn += 10 {
			c := commit(1, lsn, 1, 0)
			c.Messages[0].Data = noise(uint64(lsn), 20_000)
			held.Lock()
			err := j.Append(ctx, c)
			held.Unlock()
			if err != nil {
				load <- err
				return
			}
			appended.Add(1)
		}
	}()
	for round := range 2 {
		if round > 0 {
			before := appended.Load()
			await(t, "intake to go on", func() bool { return appended.Load() > before+50 })
		}
		f, err := os.Create(filler)
		if err != nil {
			t.Fatal(err)
		}
		d, err := DiskOf(mounted)
		some := max(0, int64(d.Free)-int64(j.ground.reserve/2*3))
		if err == nil && some > 0 {
			_ = allocate(f, some)
		}
		await(t, "the journal to see that the disk is filled", func() bool { return j.Room().Free < 2*j.ground.reserve })
		// A table that Badger is writing when the last byte is taken ends the process.
		held.Lock()
		await(t, "the last table to be written", func() bool {
			logs, err := filepath.Glob(filepath.Join(dir, "*.mem"))
			return err == nil && len(logs) == 1
		})
		if d, err = DiskOf(mounted); err == nil {
			_ = allocate(f, some+int64(d.Free)) // all there is, or as much as the journal leaves of it; not what is given up then
		}
		held.Unlock()
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		await(t, "the ballast to be given up", func() bool { return BallastIn(dir) == 0 })
		stood := appended.Load()
		for range 50 {
			if err := j.ApplySync(deadline(t), set("k", strings.Repeat("x", 1000))); err != nil {
				t.Fatalf("an acknowledgement is not saved: %v", err)
			}
		}
		if now := appended.Load(); now > stood+1 || !j.Room().Low {
			t.Errorf("%d commits came in on a full disk", now-stood)
		}
		if _, err := Open(Config{Dir: t.TempDir(), Reserve: 1 << 50}, silent, nil); !errors.Is(err, ErrDisk) {
			t.Errorf("a journal is opened on a disk that is nearly full: %v", err)
		}
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "intake to go on", func() bool { return !j.Room().Low })
	cancel()
	if err := <-load; !errors.Is(err, context.Canceled) {
		t.Errorf("append: %v", err)
	}
	mustSync(t, j)
	end()
	j, _ = open(t, dir)
	entries := read(t, j, 0, int(appended.Load()))
	if len(entries) != int(appended.Load()) {
		t.Errorf("%d entries, want %d", len(entries), appended.Load())
	}
}
