package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"
)

// killed gives a directory as a kill leaves it, with so many transactions in
// the log of the memtable, and where in it each ends.
func killed(t *testing.T, commits int) (dir, log string, ends []int) {
	t.Helper()
	source := t.TempDir()
	j, end := start(t, source)
	for n := range commits {
		mustAppend(t, j, commit(1, LSN(10*n+10), 3, 100))
		mustSync(t, j)
	}
	dir = copyJournal(t, source)
	end()
	logs, err := filepath.Glob(filepath.Join(dir, "*"+memExt))
	if err != nil || len(logs) != 1 {
		t.Fatalf("logs %q, %v", logs, err)
	}
	raw, err := os.ReadFile(logs[0])
	if err != nil {
		t.Fatal(err)
	}
	l := readLog(raw)
	if len(l.commits) < commits || l.rest || l.behind > 0 {
		t.Fatalf("the log has %+v, want %d transactions", l, commits)
	}
	for at := 0; ; {
		n := bytes.Index(raw[at:], []byte(finKey))
		if n < 0 {
			return dir, filepath.Base(logs[0]), ends
		}
		at += n + 1
		r, ok := readRecord(raw[at-1-finFront:])
		if !ok {
			t.Fatalf("no record ends the transaction at %d", at)
		}
		ends = append(ends, at-1-finFront+r.size)
	}
}

// TestDamagedLogIsNamedAtTheStart: what was written last stands in no table yet.
// A log that was cut, emptied, deleted, or has a wrong byte before its last
// transaction is named, and nothing is changed.
func TestDamagedLogIsNamedAtTheStart(t *testing.T) {
	t.Parallel()
	dir, log, ends := killed(t, 30)
	last, middle := ends[len(ends)-2], ends[len(ends)/2]
	for how, damage := range map[string]func([]byte) []byte{
		"its head":                           func(b []byte) []byte { b[3] ^= 1; return b },
		"its first record":                   func(b []byte) []byte { b[memHead+1] ^= 1; return b },
		"a byte in the middle":               func(b []byte) []byte { b[middle+40] ^= 0x10; return b },
		"the end of a transaction":           func(b []byte) []byte { b[middle-3] ^= 0x10; return b },
		"just before the last transaction":   func(b []byte) []byte { b[last-3] ^= 1; return b },
		"a transaction is zero":              func(b []byte) []byte { clear(b[middle:ends[len(ends)/2+1]]); return b },
		"a transaction is taken out":         func(b []byte) []byte { return append(b[:middle:middle], b[ends[len(ends)/2+1]:]...) },
		"cut in the middle of a transaction": func(b []byte) []byte { return b[:middle+20] },
		"cut in the last transaction":        func(b []byte) []byte { return b[:last+20] },
		"cut in its head":                    func(b []byte) []byte { return b[:7] },
		"emptied":                            func([]byte) []byte { return nil },
		"deleted":                            nil,
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			broken := copyJournal(t, dir)
			alter(t, filepath.Join(broken, log), damage)
			wantDamaged(t, broken, log)
			wantDamaged(t, broken, log) // the first look has taken nothing back
		})
	}
}

// TestWhatACrashLeavesUnfinishedIsNoDamage: a transaction that was being written,
// in whatever part, a log that was just begun, and files that hold nothing of ours.
func TestWhatACrashLeavesUnfinishedIsNoDamage(t *testing.T) {
	t.Parallel()
	const commits = 30
	dir, log, ends := killed(t, commits)
	last, end := ends[len(ends)-2], ends[len(ends)-1]
	nothing := func([]byte) []byte { return nil }
	noise := func(b []byte) []byte { return append([]byte("damaged"), b[min(len(b), 7):]...) }
	for how, c := range map[string]struct {
		file   string
		damage func([]byte) []byte
		lost   int
	}{
		"nothing":                        {log, func(b []byte) []byte { return b }, 0},
		"the last one half written":      {log, func(b []byte) []byte { clear(b[(last+end)/2:]); return b }, 1},
		"the last one without its start": {log, func(b []byte) []byte { clear(b[last : last+30]); return b }, 1},
		"the last one without its end":   {log, func(b []byte) []byte { clear(b[end-1 : end]); b[end-1] ^= 1; return b }, 1},
		"cut where it ends":              {log, func(b []byte) []byte { return b[:end] }, 0},
		"cut where another ends":         {log, func(b []byte) []byte { return b[:last] }, 1}, // as a start does it
		"the next log begun":             {"00009.mem", nothing, 0},
		"… and made":                     {"00009.mem", func([]byte) []byte { return make([]byte, memFull) }, 0},
		"a note half written":            {noteName, nothing, 0},
		"no note":                        {noteName, nil, 0},
		"an empty values' log":           {"000001.vlog", nothing, 0},
		"a values' log with a bad end":   {"000001.vlog", func([]byte) []byte { return append(make([]byte, memHead), "damaged"...) }, 0},
		"no statistics":                  {"DISCARD", nil, 0},
		"empty statistics":               {"DISCARD", nothing, 0},
		"damaged statistics":             {"DISCARD", noise, 0},
		"no keys":                        {"KEYREGISTRY", nil, 0},
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			broken := copyJournal(t, dir)
			if _, err := os.Stat(filepath.Join(broken, c.file)); errors.Is(err, os.ErrNotExist) {
				if err := os.WriteFile(filepath.Join(broken, c.file), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			alter(t, filepath.Join(broken, c.file), c.damage)
			j, end := start(t, broken)
			if want := Seq(3 * (commits - c.lost)); j.Head() != want {
				t.Errorf("head %d, want %d", j.Head(), want)
			}
			mustAppend(t, j, commit(1, 10_000, 1, 10)) // and it goes on
			mustSync(t, j)
			awaitTables(t, broken)
			again := copyJournal(t, broken)
			end()
			for _, dir := range []string{broken, again} {
				j, end := start(t, dir)
				if want := Seq(3*(commits-c.lost) + 1); j.Head() != want {
					t.Errorf("head %d, want %d", j.Head(), want)
				}
				end()
			}
		})
	}
}

// TestDamagedHeadIsNamed: of the values' log, which holds what is too large for a
// table, and of the list of keys, which can be done without.
func TestDamagedHeadIsNamed(t *testing.T) {
	t.Parallel()
	dir, _, _ := killed(t, 3)
	for how, content := range map[string][]byte{"cut": make([]byte, 7), "damaged": []byte("damaged, and long enough")} {
		t.Run(how, func(t *testing.T) {
			broken := copyJournal(t, dir)
			if err := os.WriteFile(filepath.Join(broken, "000001.vlog"), content, 0o600); err != nil {
				t.Fatal(err)
			}
			wantDamaged(t, broken, "000001.vlog")
		})
	}
	for how, damage := range map[string]func([]byte) []byte{
		"emptied": func([]byte) []byte { return nil }, "cut": func(b []byte) []byte { return b[:20] },
	} {
		t.Run("keys "+how, func(t *testing.T) {
			broken := copyJournal(t, dir)
			path := filepath.Join(broken, badger.KeyRegistryFileName)
			alter(t, path, damage)
			_, err := Open(Config{Dir: broken}, silent, nil)
			if want := "file KEYREGISTRY is damaged; delete it: it holds nothing of the journal"; !errors.Is(err, ErrDamaged) || !strings.HasSuffix(err.Error(), want) {
				t.Fatalf("Open = %v, want %s", err, want)
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			j, end := start(t, broken)
			if j.Head() != 9 {
				t.Errorf("head %d", j.Head())
			}
			end()
		})
	}
}

// TestLogsFollowOneAnother: of several logs none may be missing.
func TestLogsFollowOneAnother(t *testing.T) {
	t.Parallel()
	dir, log, ends := killed(t, 30)
	raw, err := os.ReadFile(filepath.Join(dir, log))
	if err != nil {
		t.Fatal(err)
	}
	first, second := ends[9], ends[19]
	split := func(t *testing.T, number int, change func(logs [][]byte) [][]byte) string {
		t.Helper()
		to := copyJournal(t, dir)
		head := raw[:memHead]
		logs := change([][]byte{raw[:first:first], slices.Concat(head, raw[first:second]), slices.Concat(head, raw[second:ends[len(ends)-1]])})
		if err := os.Remove(filepath.Join(to, log)); err != nil {
			t.Fatal(err)
		}
		name := func(n int) string { return filepath.Join(to, fmt.Sprintf("%05d%s", number+n, memExt)) }
		for n, data := range logs {
			if data == nil {
				continue
			}
			if err := os.WriteFile(name(n), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return to
	}
	for how, number := range map[string]int{"all are there": 1, "… and their numbers have become longer": 99_999} {
		t.Run(how, func(t *testing.T) {
			to := split(t, number, func(logs [][]byte) [][]byte { return logs })
			if err := os.WriteFile(filepath.Join(to, noteName), fmt.Appendf(nil, "%05d%s", number, memExt), 0o600); err != nil {
				t.Fatal(err)
			}
			j, end := start(t, to)
			if j.Head() != 90 {
				t.Errorf("head %d", j.Head())
			}
			end()
		})
	}
	for how, c := range map[string]struct {
		change func(logs [][]byte) [][]byte
		names  string
	}{
		"the first is missing":  {func(l [][]byte) [][]byte { l[0] = nil; return l }, "00002.mem"},
		"the second is missing": {func(l [][]byte) [][]byte { l[1] = nil; return l }, "00003.mem"},
		"the first is damaged":  {func(l [][]byte) [][]byte { l[0] = pad(l[0]); l[0][first-3] ^= 1; return l }, "00001.mem"},
		"the second is cut":     {func(l [][]byte) [][]byte { l[1] = l[1][:len(l[1])-3]; return l }, "00002.mem"},
	} {
		t.Run(how, func(t *testing.T) {
			wantDamaged(t, split(t, 1, c.change), c.names)
		})
	}
}

// pad makes a log as long as one that is written to.
func pad(b []byte) []byte { return append(bytes.Clone(b), make([]byte, memFull-len(b))...) }

func FuzzReadLog(f *testing.F) {
	f.Add([]byte{})
	f.Add(make([]byte, 100))
	f.Add(slices.Concat(make([]byte, memHead+2), binary.AppendUvarint(nil, 1<<63), []byte(finKey)))
	f.Fuzz(func(t *testing.T, data []byte) {
		if l := readLog(data); len(l.commits) > 0 && len(data) < memHead {
			t.Errorf("%d bytes have %+v", len(data), l)
		}
	})
}
