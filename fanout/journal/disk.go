package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Disk is what the file system under a directory says of itself.
type Disk struct {
	Free, Size Size   // 0 and 0 where it does not tell
	Kind       string // of a file system that is no home for a journal; "" for any other
	Why        string // then: why not
	Remote     bool   // on which a journal is not opened
}

// Bounds of what must stay free: a share of the disk, since a large one is
// filled faster, but never less than what Badger needs to write its tables anew.
const (
	reserveShare = 20 // one part of so many
	reserveLeast = 128 << 20
	reserveMost  = 1 << 30
	ballastMost  = 128 << 20 // for what is queued when intake begins to wait, and for many acknowledgements behind it
)

// Reserve is how much of a disk must stay free where nobody says how much: a
// twentieth, from 128 MiB to 1 GiB, and of a tiny disk at most a half.
func (d Disk) Reserve() Size {
	return min(max(d.Size/reserveShare, min(reserveLeast, d.Size/2)), reserveMost)
}

// DiskOf looks at the disk of a directory, or of the one above that it would
// be made in.
func DiskOf(dir string) (Disk, error) {
	for {
		d, err := diskOf(dir)
		above := filepath.Dir(dir)
		if !errors.Is(err, fs.ErrNotExist) || above == dir {
			return d, err
		}
		dir = above
	}
}

// ErrDisk reports a disk on which a journal is not opened.
var ErrDisk = errors.New("journal.dir is on an unfit disk")

// diskError is one that is told without what it wraps.
type diskError struct{ text string }

func (e *diskError) Error() string { return e.text }
func (e *diskError) Unwrap() error { return ErrDisk }

// fit refuses a disk that a journal would come to harm on; held is what the
// journal's ballast holds of it.
func (d Disk) fit(dir string, reserve, held Size) error {
	switch room := d.Free + held; {
	case d.Remote:
		return &diskError{fmt.Sprintf("journal.dir %q is on %s, %s: put it on a local disk", dir, d.Kind, d.Why)}
	case d.Size > 0 && room < reserve/2:
		return &diskError{fmt.Sprintf("journal.dir %q: the disk is nearly full, %s of %s are free: free %s more, or put it on a larger disk", dir, room, d.Size, reserve/2-room)}
	}
	return nil
}

// ballastName is the file of the ballast: what it holds of the disk is for
// acknowledgements and hand-overs when somebody else has taken the rest.
const ballastName = "ballast"

// BallastIn gives how much of the disk the ballast in a directory holds.
func BallastIn(dir string) Size {
	info, err := os.Stat(filepath.Join(dir, ballastName))
	if err != nil {
		return 0
	}
	return Size(info.Size())
}

// takenIn gives how much of the disk the files of a directory take, without the
// ballast. What goes meanwhile does not count.
func takenIn(dir string) (all Size) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() && e.Name() != ballastName {
			all += taken(info)
		}
	}
	return all
}

func dropBallast(dir string) error {
	if err := os.Remove(filepath.Join(dir, ballastName)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// makeBallast makes a file that holds size of the disk, whole or not at all.
func makeBallast(dir string, size Size) (err error) {
	name := filepath.Join(dir, ballastName)
	f, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			_ = os.Remove(name) // it would say that it holds more than it does
		}
	}()
	return allocate(f, int64(size))
}

// Room is what a journal knows of its disk.
type Room struct {
	Free    Size `json:"free_bytes"`
	Size    Size `json:"size_bytes"`
	Reserve Size `json:"reserve_bytes"` // free space and ballast below which intake waits
	Ballast Size `json:"ballast_bytes"`
	Low     bool `json:"intake_waits"`
	Out     bool `json:"writes_wait"` // nothing at all is written
}
