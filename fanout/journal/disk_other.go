//go:build !linux

package journal

import "os"

// diskOf tells nothing here, so nothing is watched.
func diskOf(string) (Disk, error) { return Disk{}, nil }

func keep(*os.File, int64) error { return nil }

func allocate(*os.File, int64) error { return nil }
