package journal

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// The child is this test binary again, told so by its environment.
const (
	envChildDir      = "NEWSWIRE_TEST_JOURNAL_DIR"
	envChildUnsynced = "NEWSWIRE_TEST_JOURNAL_UNSYNCED"
)

// cutCommit is the commit that the child appends at an LSN: mostly small, now
// and then one that no single Badger transaction holds, or that is spooled.
func cutCommit(lsn LSN) Commit {
	c := commit(1, lsn, int(lsn%4)+1, 200)
	if cutSpooled(lsn) {
		c = commit(1, lsn, 40, 2000)
	}
	if lsn%150 == 0 {
		c = commit(1, lsn, 6, 10)
		for i := range c.Messages {
			c.Messages[i].Data = noise(uint64(lsn)+uint64(i), 1<<20)
		}
	}
	return c
}

func cutSpooled(lsn LSN) bool { return lsn%30 == 7 }

// appendCut appends it.
func appendCut(ctx context.Context, j *Journal, lsn LSN) error {
	c := cutCommit(lsn)
	if !cutSpooled(lsn) {
		return j.Append(ctx, c)
	}
	list := parts(c, 9)
	for _, part := range list[:len(list)-1] {
		if err := j.Spool(ctx, part); err != nil {
			return err
		}
	}
	return j.Append(ctx, list[len(list)-1])
}

// powerCutChild appends to a journal without end and prints, for every commit,
// what has been acknowledged: the Seq that is synced and the LSN confirmed.
func powerCutChild(dir string, unsynced bool) int {
	go func() { // the test holds the other end: without it there is nothing to do
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	ctx := context.Background()
	j, err := Open(Config{Dir: dir, Unsynced: unsynced}, silent, nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	j.bundleFrom = 5

	go func() {
		fmt.Fprintln(os.Stderr, j.Run(ctx))
		os.Exit(1)
	}()
	appended := make(chan Seq, 64)
	go func() {
		for lsn := LSN(1); ; lsn++ {
			if err := appendCut(ctx, j, lsn); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			appended <- j.Head()
		}
	}()
	for seq := range appended {
		if err := j.WaitSynced(ctx, seq); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		fmt.Printf("%d %d\n", seq, j.Confirmed())
	}
	return 0
}

// command runs a tool of the system to its end.
func command(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %q: %w: %s", name, args, err, bytes.TrimSpace(out))
	}
	return nil
}

// mount mounts an image with ext4 on it for as long as the test runs, or until
// the function is called. A long commit interval keeps ext4 from syncing what
// nobody asked it to.
func mount(t *testing.T, image string) (dir string, unmount func(), err error) {
	t.Helper()
	dir = t.TempDir()
	if err := command("mount", "-o", "loop,noatime,commit=300", image, dir); err != nil {
		return "", nil, err
	}
	mounted := true
	unmount = func() {
		if !mounted {
			return
		}
		mounted = false
		if err := command("umount", dir); err != nil {
			t.Errorf("%v", errors.Join(err, command("umount", "--lazy", dir)))
		}
	}
	t.Cleanup(unmount)
	return dir, unmount, nil
}

// acknowledged is what the child has said before the power was cut.
type acknowledged struct {
	synced    Seq
	confirmed LSN
}

// cutPower runs the child on a file system of its own until it has been told of
// at least so many entries, stops it between two instructions, and gives the
// image of its disk as it was at that moment, with what it had said by then.
func cutPower(t *testing.T, entries Seq, unsynced bool) (image string, said acknowledged) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("SKIPPED, the promise \"nothing synced is lost with the machine\" is NOT tested: mounting a disk image needs root")
	}
	dir := t.TempDir()
	disk, image := filepath.Join(dir, "disk"), filepath.Join(dir, "copy")
	if err := errors.Join(os.WriteFile(disk, nil, 0o600), os.Truncate(disk, 1<<30), command("mkfs.ext4", "-q", "-F", disk)); err != nil {
		t.Fatal(err)
	}
	mounted, unmount, err := mount(t, disk)
	if err != nil {
		t.Skipf("SKIPPED, the promise \"nothing synced is lost with the machine\" is NOT tested: %v", err)
	}
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), envChildDir+"="+filepath.Join(mounted, "journal"))
	if unsynced {
		child.Env = append(child.Env, envChildUnsynced+"=1")
	}
	child.Stderr = os.Stderr
	held, errIn := child.StdinPipe()
	out, errOut := child.StdoutPipe()
	if err := errors.Join(errIn, errOut, child.Start()); err != nil {
		t.Fatal(err)
	}
	kill := func() {
		_ = child.Process.Kill()
		_ = child.Wait() // tells that it was killed
		_ = held.Close()
	}
	defer unmount() // after the child is gone
	defer kill()

	lines := bufio.NewReader(out)
	for said.synced < entries {
		readAck(t, lines, &said)
	}
	freeze(t, child.Process.Pid)
	if err := command("cp", "--sparse=always", disk, image); err != nil {
		t.Fatal(err)
	}
	_ = child.Process.Kill()
	for readAck(t, lines, &said) { // what it said between our last reading and the stop
	}
	return image, said
}

// readAck reads one line of the child; false at the end of its output.
func readAck(t *testing.T, lines *bufio.Reader, said *acknowledged) bool {
	t.Helper()
	line, err := lines.ReadString('\n')
	if errors.Is(err, io.EOF) && said.synced > 0 {
		return false
	}
	if _, scanErr := fmt.Sscan(line, &said.synced, &said.confirmed); err != nil || scanErr != nil {
		t.Fatalf("the child said %q, %v", line, err)
	}
	return true
}

// freeze returns once no thread of the process runs any more, in the kernel
// neither.
func freeze(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("stop child: %v, status %x", err, status)
	}
}

// afterCut opens the journal as it is found after the power cut and gives what
// is missing of what was acknowledged: an error where the journal does not even
// open or holds what was never appended.
func afterCut(t *testing.T, image string, said acknowledged) (lost int64, err error) {
	t.Helper()
	dir, unmount, err := mount(t, image)
	if err != nil {
		return 0, err
	}
	defer unmount()
	j, err := Open(Config{Dir: filepath.Join(dir, "journal")}, silent, nil)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	var seq Seq
	for lsn := LSN(1); seq < j.Head(); lsn++ {
		c := cutCommit(lsn)
		entries, err := j.Range(seq, seq+Seq(len(c.Messages)))
		if err != nil {
			return 0, err
		}
		if len(entries) != len(c.Messages) {
			return 0, fmt.Errorf("%d of %d messages of commit %s are there", len(entries), len(c.Messages), lsn)
		}
		for i, e := range entries {
			if seq++; e.Seq != seq {
				return 0, fmt.Errorf("entry %d where %d is due", e.Seq, seq)
			}
			if err := sameMessage(e.Message, &c.Messages[i]); err != nil {
				return 0, err
			}
		}
	}
	lost = max(0, int64(said.synced)-int64(j.Head()))
	if lost == 0 && j.Confirmed() < said.confirmed {
		err = fmt.Errorf("confirmed %s was reported, the journal is at %s", said.confirmed, j.Confirmed())
	}
	t.Logf("%d entries acknowledged, %d found, %d lost", said.synced, j.Head(), lost)
	return lost, err
}

func TestPowerCutLosesNothingThatWasSynced(t *testing.T) {
	for _, entries := range []Seq{1, 300, 1500} {
		t.Run(fmt.Sprintf("after %d", entries), func(t *testing.T) {
			image, said := cutPower(t, entries, false)
			lost, err := afterCut(t, image, said)
			if lost != 0 || err != nil {
				t.Errorf("%d of %d acknowledged entries are lost: %v", lost, said.synced, err)
			}
		})
	}
}

// The test above is worth nothing unless it notices a journal that does not
// sync.
func TestPowerCutIsSeenByAJournalThatDoesNotSync(t *testing.T) {
	const rounds = 5
	for range rounds {
		image, said := cutPower(t, 1000, true)
		if lost, err := afterCut(t, image, said); lost > 0 || err != nil {
			t.Logf("seen: %d of %d acknowledged entries lost, %v", lost, said.synced, err)
			return
		}
	}
	t.Errorf("a journal that does not sync lost nothing in %d power cuts: the cut does not cut, and the test of the synced one proves nothing", rounds)
}
