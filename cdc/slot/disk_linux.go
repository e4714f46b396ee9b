package slot

import "syscall"

// diskOf is nil for a place that we may not look at.
func diskOf(place string) *Disk {
	var s syscall.Statfs_t
	if syscall.Statfs(place, &s) != nil {
		return nil
	}
	return &Disk{Free: int64(s.Bavail) * s.Bsize, Size: int64(s.Blocks) * s.Bsize}
}
