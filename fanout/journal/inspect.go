package journal

import (
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

// damaged is what is wrong with a journal, with what mends it.
func damaged(dir, format string, args ...any) error {
	return fmt.Errorf("journal.dir %q: %s: restore a backup, or move the directory away and run `newswire resync`: %w", dir, fmt.Sprintf(format, args...), ErrDamaged)
}

// inspection is what is known of a journal before it is opened.
type inspection struct {
	dir     string
	version uint64 // the newest that any whole table has
}

// inspect checks each file that the journal cannot be read without.
func inspect(dir string) (*inspection, error) {
	in := &inspection{dir: dir}
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return in, nil
	}
	if err != nil {
		return nil, err
	}
	listed, err := in.manifest(files)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		id, ok := table.ParseFileID(f.Name())
		if !ok {
			continue
		}
		_, needed := listed[id]
		delete(listed, id)
		version, err := verifyTable(filepath.Join(dir, f.Name()))
		if err != nil && needed {
			return nil, damaged(dir, "file %s is damaged (%v)", f.Name(), err)
		}
		if err == nil { // else one that a crash has left unfinished
			in.version = max(in.version, version)
		}
	}
	for id := range listed {
		return nil, damaged(dir, "file %s is missing", filepath.Base(table.IDToFilename(id)))
	}
	return in, nil
}

// manifest gives the tables that the journal is made of.
func (in *inspection) manifest(files []os.DirEntry) (map[uint64]badger.TableManifest, error) {
	f, err := os.Open(filepath.Join(in.dir, badger.ManifestFilename))
	if errors.Is(err, fs.ErrNotExist) {
		for _, f := range files {
			if strings.HasSuffix(f.Name(), ".sst") || strings.HasSuffix(f.Name(), ".mem") {
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

// complete holds an open journal against what was found before: a manifest that
// was cut short opens without its last tables.
func (in *inspection) complete(db *badger.DB) error {
	if got := db.MaxVersion(); got < in.version {
		return damaged(in.dir, "file %s is cut short: the newest %d changes are not in what it lists", badger.ManifestFilename, in.version-got)
	}
	return nil
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
