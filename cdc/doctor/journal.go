package doctor

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"newswire/cdc/slot"
)

// disk is what the file system under a directory says of itself.
type disk struct {
	free, size int64
	kind       string // of a file system that is no home for a journal; "" for any other
	why        string // then: why not
}

// Bounds of free space: below them the journal cannot take what a busy hour brings.
const (
	freeLeast = 1 << 30
	freeShare = 0.05
)

// journalDir examines where the journal is, or would be.
func (e *examination) journalDir() {
	const check = "journal-dir"
	dir := e.cfg.JournalDir
	if dir == "" {
		return
	}
	at, err := existing(dir)
	if err != nil {
		e.fatal(check, dir, "correct journal.dir, or make the directory for the engine's user", "the directory cannot be used: %v", err)
		return
	}
	if err := writable(at); err != nil {
		e.fatal(check, at, "give it to the engine's user", "we may not write here: %v", err)
		return
	}
	if err := roomy(at); err != nil {
		e.fatal(check, at, "correct journal.dir", "nothing can be made here: %v", err)
		return
	}
	if at == dir {
		e.ok(check, dir, "the directory can be written to")
	} else {
		e.ok(check, dir, "the directory is made at the first start")
	}
	d, err := diskOf(at)
	if err != nil {
		e.warn("journal-disk", dir, "check by hand", "the file system does not tell about itself: %v", err)
		return
	}
	e.judgeDisk(dir, d)
}

// roomy makes a directory in the directory, and takes it away: who may write is
// not always who can, as in /proc. A journal that lies there has shown it.
func roomy(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "MANIFEST")); err == nil {
		return nil
	}
	trial, err := os.MkdirTemp(dir, ".newswire-doctor-")
	var fault *fs.PathError
	switch {
	case errors.As(err, &fault):
		return fault.Err
	case err != nil:
		return err
	}
	return os.Remove(trial)
}

func (e *examination) judgeDisk(dir string, d disk) {
	const check = "journal-disk"
	if d.kind != "" {
		e.warn(check, dir, "put journal.dir on a local disk", "the file system is %s, %s", d.kind, d.why)
	}
	switch {
	case d.size == 0: // it does not tell
	case d.free < freeLeast || float64(d.free) < freeShare*float64(d.size):
		e.warn(check, dir, "free some space, or put journal.dir on a larger disk: a full one stops intake", "%s of %s are free", slot.Bytes(d.free), slot.Bytes(d.size))
	default:
		e.ok(check, dir, "%s of %s are free", slot.Bytes(d.free), slot.Bytes(d.size))
	}
}

// existing is the directory, or the nearest one above that it would be made in.
func existing(dir string) (string, error) {
	for {
		info, err := os.Stat(dir)
		switch {
		case err == nil && !info.IsDir():
			return "", &fs.PathError{Op: "open", Path: dir, Err: errors.New("not a directory")}
		case err == nil:
			return dir, nil
		case !errors.Is(err, fs.ErrNotExist):
			return "", err
		}
		above := filepath.Dir(dir)
		if above == dir {
			return "", err
		}
		dir = above
	}
}
