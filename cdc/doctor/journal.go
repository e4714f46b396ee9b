package doctor

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"newswire/fanout/journal"
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
	d, err := journal.DiskOf(at)
	if err != nil {
		e.warn("journal-disk", dir, "check by hand", "the file system does not tell about itself: %v", err)
		return
	}
	e.judgeDisk(dir, d, e.cfg.JournalReserve)
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

func (e *examination) judgeDisk(dir string, d journal.Disk, reserve journal.Size) {
	const check = "journal-disk"
	if d.Kind != "" {
		tell := e.warn
		if d.Remote {
			tell = e.fatal
		}
		tell(check, dir, "put journal.dir on a local disk", "the file system is %s, %s", d.Kind, d.Why)
	}
	if d.Size == 0 {
		return // it does not tell
	}
	if reserve == 0 {
		reserve = d.Reserve()
	}
	held := journal.BallastIn(dir)
	switch room := d.Free + held; {
	case room < reserve/2:
		e.fatal(check, dir, "free some space, or put journal.dir on a larger disk: the journal is not opened on a disk so full", "%s of %s are free", room, d.Size)
	case room < reserve+reserve/8:
		e.warn(check, dir, "free some space, or put journal.dir on a larger disk: intake waits while less than journal.reserve is free", "%s of %s are free, and journal.reserve is %s", room, d.Size, reserve)
	default:
		e.ok(check, dir, "%s of %s are free", room, d.Size)
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
