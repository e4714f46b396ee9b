package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/ristretto/v2/z"
)

// Badger meets a damaged table with a panic, and takes a manifest that is cut
// short or missing for a journal with fewer tables: it deletes the others. So
// what is in the directory is read through before Badger opens it.

// damage is what is wrong with a journal, with what mends it. It is ErrDamaged.
type damage struct{ dir, what, remedy string }

func (d damage) Error() string { return fmt.Sprintf("journal.dir %q: %s; %s", d.dir, d.what, d.remedy) }

func (damage) Is(target error) bool { return target == ErrDamaged }

func damaged(dir, format string, args ...any) error {
	return damage{dir, fmt.Sprintf(format, args...), "restore a backup, or move the directory away and run `newswire resync`"}
}

// inspection is what is found out about a journal before it is opened.
type inspection struct {
	dir     string
	version uint64 // the newest that any whole table has, listed or not
	lastLog string // the last log of a memtable with anything in it
}

// inspect checks each file that the journal cannot be read without.
func inspect(dir string) error {
	in := inspection{dir: dir}
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	listed, err := in.manifest(files)
	if err != nil {
		return err
	}
	if listed == nil {
		return nil // a new one
	}
	if err := in.keys(); err != nil {
		return err
	}
	var newest uint64 // version in the tables that are listed
	for _, f := range files {
		id, ok := table.ParseFileID(f.Name())
		if !ok {
			continue
		}
		_, needed := listed[id]
		delete(listed, id)
		version, err := verifyTable(filepath.Join(dir, f.Name()))
		if err != nil && needed {
			return damaged(dir, "file %s is damaged (%v)", f.Name(), err)
		}
		if err == nil { // else one that a crash has left unfinished
			in.version = max(in.version, version)
		}
		if needed {
			newest = max(newest, version)
		}
	}
	for id := range listed {
		return damaged(dir, "file %s is missing", filepath.Base(table.IDToFilename(id)))
	}
	if err := in.heads(files); err != nil {
		return err
	}
	reach, err := in.logs(files, newest)
	if err == nil {
		err = in.needLog()
	}
	if err == nil && in.version > reach { // what is not listed is deleted
		err = in.manifestShort(reach)
	}
	return err
}

// manifest gives the tables that the journal is made of.
func (in *inspection) manifest(files []os.DirEntry) (map[uint64]badger.TableManifest, error) {
	f, err := os.Open(filepath.Join(in.dir, badger.ManifestFilename))
	if errors.Is(err, fs.ErrNotExist) {
		for _, f := range files {
			if strings.HasSuffix(f.Name(), ".sst") || strings.HasSuffix(f.Name(), memExt) {
				return nil, damaged(in.dir, "file %s is missing beside %s", badger.ManifestFilename, f.Name())
			}
		}
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() // was only read
	m, _, err := badger.ReplayManifestFile(f, 0, badger.DefaultOptions(in.dir))
	if err != nil {
		return nil, damaged(in.dir, "file %s is damaged (%v)", badger.ManifestFilename, err)
	}
	return m.Tables, nil
}

// keys checks the list of keys, of which the journal uses none.
func (in *inspection) keys() error {
	list, err := os.ReadFile(filepath.Join(in.dir, badger.KeyRegistryFileName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && !bytes.Contains(list, []byte("Hello Badger")) {
		err = damage{in.dir, "file " + badger.KeyRegistryFileName + " is damaged", "delete it: it holds nothing of the journal"}
	}
	return err
}

// verifyTable reads a table with all its checksums and gives the newest version
// in it.
func verifyTable(path string) (version uint64, err error) {
	f, err := z.OpenMmapFile(path, os.O_RDONLY, 0)
	if err != nil {
		return 0, err
	}
	defer func() {
		if p := recover(); p != nil { // Badger does not bound what it reads of a table
			err = errors.New("its index is unreadable")
		}
		_ = f.Close(-1) // was only read
	}()
	t, err := table.OpenTable(f, table.Options{ReadOnly: true, Compression: options.None, ChkMode: options.OnBlockRead})
	if err != nil {
		return 0, err
	}
	if err := t.VerifyChecksum(); err != nil {
		return 0, err
	}
	return t.MaxVersion(), nil
}

// dense checks that every entry is there, from the first that is kept to the
// last that has a place.
func (j *Journal) dense() error {
	next := j.oldest
	hole := func(upto Seq) error {
		return damaged(j.ground.dir, "entries %d to %d are missing", next, upto-1)
	}
	return j.View(func(v View) error {
		for next <= j.at.Head {
			x, ok := j.extents.at(next)
			if ok && x.first <= next {
				if !x.blocks.whole(uint64(next-x.first), x.count) {
					return damaged(j.ground.dir, "some of the entries %d to %d are missing", x.first, x.last())
				}
				next = x.last() + 1
				continue
			}
			upto := j.at.Head + 1
			if ok {
				upto = min(upto, x.first)
			}
			err := v.keys(spaceEntries, spaceEntries.Seq(next), func(key []byte) (bool, error) {
				seq := SeqOf(key)
				if seq >= upto {
					return false, nil
				}
				if seq != next {
					return false, hole(seq)
				}
				next++
				return true, nil
			})
			if err == nil && next < upto {
				err = hole(upto)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// whole tells whether the blocks hold all messages of the commit from one on.
func (bs blocks) whole(from, count uint64) bool {
	for _, b := range bs {
		if b.last < from {
			continue
		}
		if b.first > from {
			return false
		}
		from = b.last + 1
	}
	return from >= count
}
