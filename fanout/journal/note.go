package journal

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// The journal notes which log it writes to as long as it is open, so that the
// next start knows after a crash that there must be that one, or a later one.
const noteName = "in-use"

// noteLog writes the note. Nothing but the search for damage needs it.
func (j *Journal) noteLog() {
	if err := writeNote(j.ground.dir); err != nil {
		j.log.Warn("the next start would not miss a log of the journal that has been deleted", "err", err)
	}
}

// writeNote writes the note, durably.
func writeNote(dir string) error {
	files, err := os.ReadDir(dir)
	logs := memLogs(files)
	if err != nil || len(logs) == 0 {
		return err
	}
	last := logs[len(logs)-1].Name()
	if err := syncFile(filepath.Join(dir, last)); err != nil { // or a power cut could leave it empty
		return err
	}
	f, err := os.Create(filepath.Join(dir, noteName))
	if err != nil {
		return err
	}
	_, err = f.WriteString(last)
	return errors.Join(err, f.Sync(), f.Close(), syncFile(dir))
}

// dropNote takes the note back, durably, before the last log goes.
func dropNote(dir string) error {
	err := os.Remove(filepath.Join(dir, noteName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, syncFile(dir))
}

// needLog holds the logs against the note.
func (in *inspection) needLog() error {
	noted, err := os.ReadFile(filepath.Join(in.dir, noteName))
	if errors.Is(err, fs.ErrNotExist) || err == nil && !strings.HasSuffix(string(noted), memExt) { // a crash came before it was written
		return nil
	}
	if err != nil {
		return err
	}
	if byNumber(in.lastLog, string(noted)) < 0 {
		return damaged(in.dir, "file %s is missing or empty, or one that came after it: what was written last was there", noted)
	}
	return nil
}
