package doctor

import "syscall"

// Modes of access(2).
const (
	accessWrite   = 2
	accessExecute = 1 // of a directory: to open what lies in it
)

func writable(dir string) error { return syscall.Access(dir, accessWrite|accessExecute) }

const (
	network  = "on which a lock and a sync need not be what the journal takes them for"
	volatile = "which does not outlive the machine's restart"
	layered  = "which goes with its container"
)

// kinds are file systems that are no home for a journal, by their magic number
// in statfs(2).
var kinds = map[uint32]disk{
	0x6969:     {kind: "NFS", why: network},
	0x517B:     {kind: "SMB", why: network},
	0xFE534D42: {kind: "SMB", why: network},
	0xFF534D42: {kind: "CIFS", why: network},
	0x65735546: {kind: "FUSE", why: network},
	0x01021997: {kind: "9P", why: network},
	0x00C36400: {kind: "CephFS", why: network},
	0x01021994: {kind: "tmpfs", why: volatile},
	0x858458F6: {kind: "ramfs", why: volatile},
	0x794C7630: {kind: "overlayfs", why: layered},
}

func diskOf(dir string) (disk, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return disk{}, err
	}
	d := kinds[uint32(s.Type)]
	d.free, d.size = int64(s.Bavail)*s.Bsize, int64(s.Blocks)*s.Bsize
	return d, nil
}
