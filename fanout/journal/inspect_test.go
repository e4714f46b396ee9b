package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"
)

// copyJournal copies a journal's files, as they are at the moment.
func copyJournal(t *testing.T, from string) (to string) {
	t.Helper()
	to = t.TempDir()
	entries, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() == "LOCK" || e.Name() == ballastName || strings.HasSuffix(e.Name(), vlogExt) {
			continue // the last holds nothing of ours, and is a gigabyte of hole
		}
		f, err := os.Open(filepath.Join(from, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(io.LimitReader(f, memFull)) // what is behind is hole
		if err == nil {
			err = os.WriteFile(filepath.Join(to, e.Name()), bytes.TrimRight(raw, "\x00"), 0o600)
		}
		if info, statErr := f.Stat(); err == nil && statErr == nil {
			err = os.Truncate(filepath.Join(to, e.Name()), info.Size())
		}
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// awaitTables waits until a journal, which is open, has everything in tables but
// what its newest log holds: a copy that is made meanwhile is none of one moment.
func awaitTables(t *testing.T, dir string) {
	t.Helper()
	await(t, "older logs to become tables", func() bool {
		logs, err := filepath.Glob(filepath.Join(dir, "*"+memExt))
		if err != nil {
			t.Fatal(err)
		}
		return len(logs) == 1
	})
}

// TestDamagedFileIsNamedAtTheStart damages each file that a journal consists of,
// of one that was closed and of one that was killed. The start names the file
// and the remedies and serves nothing.
func TestDamagedFileIsNamedAtTheStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j, end := start(t, dir)
	const commits = 2500
	for lsn := LSN(10); lsn <= commits*10; lsn += 10 {
		c := commit(1, lsn, 1, 0)
		c.Messages[0].Data = noise(uint64(lsn), 20_000)
		mustAppend(t, j, c)
	}
	mustSync(t, j)
	awaitTables(t, dir)
	killed := copyJournal(t, dir)
	end()
	for state, source := range map[string]string{"closed": dir, "killed": killed} {
		tables, err := filepath.Glob(filepath.Join(source, "*.sst"))
		if err != nil || len(tables) < 2 {
			t.Fatalf("%s: tables %q, %v", state, tables, err)
		}
		for i := range tables {
			tables[i] = filepath.Base(tables[i])
		}
		for _, file := range []string{tables[0], tables[len(tables)-1], badger.ManifestFilename} {
			for how, damage := range map[string]func([]byte) []byte{
				"a byte in the middle": func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
				"a byte at the end":    func(b []byte) []byte { b[len(b)-10] ^= 1; return b },
				"cut in half":          func(b []byte) []byte { return b[:len(b)/2] },
				"the end cut off":      func(b []byte) []byte { return b[:len(b)-5] },
				"emptied":              func([]byte) []byte { return nil },
				"deleted":              nil,
			} {
				t.Run(fmt.Sprint(state, " ", file, " ", how), func(t *testing.T) {
					broken := copyJournal(t, source)
					alter(t, filepath.Join(broken, file), damage)
					wantDamaged(t, broken, file)
				})
			}
		}
	}
}

// alter damages a file; nil deletes it.
func alter(t *testing.T, path string, damage func([]byte) []byte) {
	t.Helper()
	if damage == nil {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		return
	}
	raw, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, damage(raw), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func wantDamaged(t *testing.T, dir, names string) {
	t.Helper()
	before := sst(t, dir)
	j, err := Open(Config{Dir: dir}, silent, nil)
	if err == nil {
		entries, err := j.Range(0, j.Head())
		t.Fatalf("opened; %d of %d entries, %v", len(entries), j.Head(), errors.Join(err, j.Close()))
	}
	listed := strings.Contains(names, badger.ManifestFilename) && strings.Contains(err.Error(), ".sst is missing") // one that it no longer says is replaced
	if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), names) && !listed ||
		!strings.HasSuffix(err.Error(), "; restore a backup, or move the directory away and run `newswire resync`") {
		t.Errorf("error %v, want %s and the remedies named", err, names)
	}
	if after := sst(t, dir); !slices.Equal(before, after) {
		t.Errorf("the start has changed %q to %q", before, after)
	}
}

func sst(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestHoleIsDamage takes entries away one by one, a block, and the last: a
// reader must not be led past them in silence.
func TestHoleIsDamage(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		key  func(j *Journal) []byte
		want string
	}{
		"the first":    {func(*Journal) []byte { return spaceEntries.Seq(1) }, "entries 1 to 1 are missing"},
		"in between":   {func(*Journal) []byte { return spaceEntries.Seq(3) }, "entries 3 to 3 are missing"},
		"the last":     {func(j *Journal) []byte { return spaceEntries.Seq(j.Head()) }, "entries 46 to 46 are missing"},
		"a block":      {func(j *Journal) []byte { return j.extents[0].blocks[1].at(j.extents[0].spool).key }, "some of the entries 5 to 44 are missing"},
		"nothing":      {func(*Journal) []byte { return []byte("x-nothing") }, ""},
		"a last block": {func(j *Journal) []byte { x := j.extents[0]; return x.blocks[len(x.blocks)-1].at(x.spool).key }, "some of the entries 5 to 44 are missing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			j, end := start(t, dir)
			mustAppend(t, j, commit(1, 10, 4, 10))
			appendSpooled(t, j, commit(1, 20, 40, 10_000), 20)
			mustAppend(t, j, commit(1, 30, 2, 10))
			mustSync(t, j)
			var u Update
			u.Delete(c.key(j))
			if err := j.ApplySync(deadline(t), u); err != nil {
				t.Fatal(err)
			}
			end()
			j, err := Open(Config{Dir: dir}, silent, nil)
			switch {
			case c.want == "" && err == nil:
				if err := j.Close(); err != nil {
					t.Error(err)
				}
			case c.want == "" || err == nil || !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), c.want):
				t.Errorf("Open = %v, want %q", err, c.want)
			}
		})
	}
}
