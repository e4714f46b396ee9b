package torture

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"newswire/cmd/newswire/internal/checker"
	"newswire/cmd/newswire/internal/harness"
	"newswire/fanout/journal"
)

// disk is a file system in an image, mounted at one place. What the kernel has
// not written to it is lost with a power cut.
type disk struct {
	t       *testing.T
	image   string
	at      string
	mounted bool
	cuts    int
}

// newDisk makes a disk that is there for longer than an engine which is
// configured behind it. The test is skipped, loudly, where that is not possible.
func newDisk(t *testing.T) *disk {
	t.Helper()
	const skipped = "SKIPPED, the promise \"nothing confirmed is lost with the machine\" is NOT tested: "
	if os.Getuid() != 0 {
		t.Skip(skipped + "mounting a disk image needs root")
	}
	dir := t.TempDir()
	d := &disk{t: t, image: filepath.Join(dir, "image"), at: filepath.Join(dir, "disk")}
	err := errors.Join(os.WriteFile(d.image, nil, 0o600), os.Truncate(d.image, 4<<30), os.Mkdir(d.at, 0o700))
	if err == nil {
		err = tool("mkfs.ext4", "-q", "-F", d.image)
	}
	if err == nil {
		err = d.mount()
	}
	if err != nil {
		t.Skip(skipped + err.Error())
	}
	t.Cleanup(d.unmount)
	return d
}

// carry lets the engine's journal lie on the disk.
func (d *disk) carry(e *harness.Engine) {
	d.t.Helper()
	dir := filepath.Join(d.at, "journal")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.Symlink(dir, e.JournalDir())); err != nil {
		d.t.Fatal(err)
	}
}

// mount mounts the image. A long commit interval keeps ext4 from syncing what
// nobody asked it to.
func (d *disk) mount() error {
	err := tool("mount", "-o", "loop,noatime,commit=300", d.image, d.at)
	d.mounted = err == nil
	return err
}

func (d *disk) unmount() {
	if !d.mounted {
		return
	}
	d.mounted = false
	if err := tool("umount", d.at); err != nil {
		d.t.Errorf("%v", errors.Join(err, tool("umount", "--lazy", d.at)))
	}
}

// cut puts in the disk's place what is written of it now.
func (d *disk) cut(die func()) {
	d.t.Helper()
	d.cuts++
	image := fmt.Sprintf("%s-%d", d.image, d.cuts)
	if err := tool("cp", "--sparse=always", d.image, image); err != nil {
		d.t.Fatal(err)
	}
	die()
	d.unmount()
	if err := os.Remove(d.image); err != nil {
		d.t.Fatal(err)
	}
	d.image = image
	if err := d.mount(); err != nil {
		d.t.Fatal(err)
	}
}

// tool runs a tool of the system to its end.
func tool(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %q: %w: %s", name, args, err, bytes.TrimSpace(out))
	}
	return nil
}

// cutPower stops the machine that the engine runs on between two instructions,
// and leaves the journal as it is on the disk then. PostgreSQL is elsewhere.
func (r *run) cutPower() {
	r.t.Helper()
	r.engine.Freeze()
	r.disk.cut(r.engine.Kill)
	r.ended(true)
}

// PowerCut cuts the power of the engine's machine and starts it again. What
// the slot will not send again must be there.
var PowerCut = Fault{"power cut", func(r *run) {
	r.cutPower()
	slot, held := r.engine.AtRest(r.db)
	r.positions = append(r.positions, checker.Position{Slot: slot, Held: held})
	r.launch()
	r.engine.AwaitReady()
}}

// PowerCutLoses runs editors and readers against an engine that is armed so and
// cuts its power, up to so many times; it tells whether a cut lost something
// that the slot will not send again.
func PowerCutLoses(t *testing.T, p Plan, cuts int) bool {
	t.Helper()
	for range cuts {
		p.Disk = true
		r := start(t, p)
		stopReaders, stopEditors := r.startReaders(), r.startEditors()
		harness.Pause(t, p.Quiet)
		r.cutPower()
		stopEditors()
		stopReaders()
		r.engine.Damaged = true
		slot := journal.LSN(r.db.ConfirmedFlush())
		held, err := harness.Held(r.engine.JournalDir())
		t.Logf("the slot stands at %s, the journal holds everything up to %s, %v", slot, held, err)
		if err != nil || held < slot {
			return true
		}
	}
	return false
}
