package journal

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

const (
	network  = "on which a lock and a sync need not be what the journal takes them for"
	volatile = "which does not outlive the machine's restart"
	layered  = "which goes with its container"
)

// kinds are file systems that are no home for a journal, by their magic number
// in statfs(2).
var kinds = map[uint32]Disk{
	0x6969:     {Kind: "NFS", Why: network, Remote: true},
	0x517B:     {Kind: "SMB", Why: network, Remote: true},
	0xFE534D42: {Kind: "SMB", Why: network, Remote: true},
	0xFF534D42: {Kind: "CIFS", Why: network, Remote: true},
	0x65735546: {Kind: "FUSE", Why: network, Remote: true},
	0x00C36400: {Kind: "CephFS", Why: network, Remote: true},
	0x0BD00BD0: {Kind: "Lustre", Why: network, Remote: true},
	0x5346414F: {Kind: "AFS", Why: network, Remote: true},
	0x01021997: {Kind: "9P", Why: network, Remote: true},
	0x01021994: {Kind: "tmpfs", Why: volatile},
	0x858458F6: {Kind: "ramfs", Why: volatile},
	0x794C7630: {Kind: "overlayfs", Why: layered},
}

func diskOf(dir string) (Disk, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return Disk{}, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	d := kinds[uint32(s.Type)]
	d.Free, d.Size = Size(int64(s.Bavail)*s.Bsize), Size(int64(s.Blocks)*s.Bsize)
	return d, nil
}

// taken gives how much of the disk a file takes: what Badger writes by way of
// memory is much larger than what it has come to yet.
func taken(info fs.FileInfo) Size {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return Size(s.Blocks * 512)
	}
	return Size(info.Size())
}

// keep gives a file that is no larger than size its blocks, as far as it has
// none yet.
func keep(f *os.File, size int64) error {
	const keepSize = 1
	var s syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &s); err != nil || s.Blocks*512 >= size {
		return err
	}
	return syscall.Fallocate(int(f.Fd()), keepSize, 0, size)
}

// allocate gives the file its blocks. Where the file system cannot do that
// alone, what fills them is written.
func allocate(f *os.File, size int64) error {
	err := syscall.Fallocate(int(f.Fd()), 0, 0, size)
	if !errors.Is(err, syscall.EOPNOTSUPP) {
		return err
	}
	piece := make([]byte, 1<<20)
	for i := range piece {
		piece[i] = byte(i * i >> 8) // a file system that compresses would hold nothing of zeros
	}
	for ; size > 0; size -= int64(len(piece)) {
		if _, err := f.Write(piece[:min(size, int64(len(piece)))]); err != nil {
			return err
		}
	}
	return f.Sync()
}
