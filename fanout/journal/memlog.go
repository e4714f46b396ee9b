package journal

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/y"
	"github.com/dgraph-io/ristretto/v2/z"
)

// What no table has yet is in the logs of the memtables. Badger reads each up to
// the first record that does not fit, takes that for what a crash has left
// unfinished, and goes on without what is behind. So they are read through
// first: each of the journal's transactions has the version after the one
// before, and at most the last one can be unfinished.

// What the names of a memtable's and of the values' logs end in; before that
// stands their number.
const (
	memExt  = ".mem"
	vlogExt = ".vlog"
)

// The format of a log, of badger/v4/memtable.go: a head, which begins with the
// number of a key that encrypts it, 0 for none, then records, each with
// meta, userMeta, lengths of key and value, expiry, key, value and checksum. A
// transaction's records share a version, and one of finTxn ends it.
const (
	memHead  = 20
	memFull  = 2 * memTable // bytes that a log is made with
	metaTxn  = 1 << 6
	finTxn   = 1 << 7
	finKey   = "!badger!txn"
	finFront = 5 // bytes before the key in a record of finTxn
)

// memLog is what is in one log.
type memLog struct {
	commits []uint64 // versions of the transactions that a start finds
	rest    bool     // something is behind them that a start does not read
	behind  uint64   // the newest transaction in that whose end is whole; 0 for none
}

// openLog reads a log that is not empty.
func openLog(path string) (memLog, error) {
	f, err := z.OpenMmapFile(path, os.O_RDONLY, 0)
	if err != nil {
		return memLog{}, err
	}
	defer f.Close(-1) // was only read
	return readLog(f.Data), nil
}

// readLog takes a log apart.
func readLog(data []byte) (l memLog) {
	if len(data) < memHead {
		return memLog{rest: true}
	}
	end, open := memHead, uint64(0)
	for at := end; ; {
		r, ok := readRecord(data[at:])
		if !ok {
			break
		}
		at += r.size
		if r.meta&finTxn == 0 {
			version := y.ParseTs(r.key)
			if r.meta&metaTxn == 0 || open != 0 && open != version {
				break
			}
			open = version
			continue
		}
		if version, err := strconv.ParseUint(string(r.value), 10, 64); err != nil || version != open {
			break
		}
		l.commits = append(l.commits, open)
		end, open = at, 0
	}
	data = data[end:]
	l.rest = len(bytes.TrimLeft(data, "\x00")) > 0
	for {
		at := bytes.Index(data, []byte(finKey))
		if at < 0 {
			return l
		}
		if r, ok := readRecord(data[max(at-finFront, 0):]); ok && r.meta&finTxn != 0 && len(r.key) == len(finKey)+8 {
			l.behind = max(l.behind, y.ParseTs(r.key))
		}
		data = data[at+1:]
	}
}

// memRecord is one record of a log.
type memRecord struct {
	meta       byte
	key, value []byte
	size       int
}

// readRecord reads a whole record with a key and a version.
func readRecord(data []byte) (r memRecord, ok bool) {
	d := Decoder{Rest: data}
	r.meta = d.Byte()
	d.Byte()
	key, value := d.Uvarint(), d.Uvarint()
	d.Uvarint()
	if key < 8 || key > 1<<16 || value > uint64(len(data)) {
		return r, false
	}
	r.key, r.value = d.Take(int(key)), d.Take(int(value))
	r.size = len(data) - len(d.Rest) + crc32.Size
	sum := d.Take(crc32.Size)
	return r, !d.Bad && binary.BigEndian.Uint32(sum) == crc32.Checksum(data[:r.size-crc32.Size], castagnoli)
}

// memLogs picks the logs of memtables, the oldest first.
func memLogs(files []os.DirEntry) (logs []os.DirEntry) {
	for _, f := range files {
		if strings.HasSuffix(f.Name(), memExt) {
			logs = append(logs, f)
		}
	}
	slices.SortFunc(logs, func(a, b os.DirEntry) int { return byNumber(a.Name(), b.Name()) })
	return logs
}

// byNumber compares names of logs: 99999.mem comes before 100000.mem.
func byNumber(a, b string) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}

// logs follows the transactions from the newest that the listed tables have on,
// through every log, and gives the last.
func (in *inspection) logs(files []os.DirEntry, listed uint64) (reach uint64, err error) {
	reach = listed
	unread := "" // a log that was not read to its end
	for _, f := range memLogs(files) {
		info, err := f.Info()
		if err != nil {
			return 0, err
		}
		if info.Size() == 0 {
			continue // was about to be used; or see needLog
		}
		in.lastLog = f.Name()
		l, err := openLog(filepath.Join(in.dir, f.Name()))
		if err != nil {
			return 0, err
		}
		for _, version := range l.commits {
			switch {
			case version <= reach+1:
			case unread != "":
				return 0, damaged(in.dir, "file %s is damaged: %d transactions of it cannot be read", unread, version-reach-1)
			case in.version >= version-1:
				return 0, in.manifestShort(reach)
			default:
				return 0, damaged(in.dir, "a file is missing that was written before %s: %d transactions were in it", f.Name(), version-reach-1)
			}
			reach = max(reach, version)
		}
		if l.behind > reach+1 {
			return 0, damaged(in.dir, "file %s is damaged: %d transactions of it cannot be read", f.Name(), l.behind-reach)
		}
		if l.rest && info.Size() < memFull { // Badger cuts them only where a transaction ends
			return 0, damaged(in.dir, "file %s is cut short", f.Name())
		}
		if unread = ""; l.rest {
			unread = f.Name()
		}
	}
	return reach, nil
}

// heads checks what the logs begin with.
func (in *inspection) heads(files []os.DirEntry) error {
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), memExt) && !strings.HasSuffix(f.Name(), vlogExt) {
			continue
		}
		file, err := os.Open(filepath.Join(in.dir, f.Name()))
		if err != nil {
			return err
		}
		var head [memHead]byte
		n, err := io.ReadFull(file, head[:])
		if err = errors.Join(err, file.Close()); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		switch {
		case 0 < n && n < memHead:
			return damaged(in.dir, "file %s is cut short", f.Name())
		case binary.BigEndian.Uint64(head[:]) != 0:
			return damaged(in.dir, "file %s is damaged (its head)", f.Name())
		}
	}
	return nil
}

// dropEmpty deletes logs that a crash has kept from being begun: Badger does not
// open over them.
func dropEmpty(dir string) error {
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), memExt) && !strings.HasSuffix(f.Name(), vlogExt) {
			continue
		}
		if info, statErr := f.Info(); statErr == nil && info.Size() == 0 {
			err = errors.Join(err, os.Remove(filepath.Join(dir, f.Name())))
		}
	}
	return err
}

// manifestShort is the damage of a manifest that does not list a table with what
// is newer than all that it lists.
func (in *inspection) manifestShort(reach uint64) error {
	return damaged(in.dir, "file %s is cut short: the newest %d transactions are not in what it lists", badger.ManifestFilename, in.version-reach)
}
