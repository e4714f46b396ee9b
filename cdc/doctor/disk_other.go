//go:build !linux

package doctor

import "os"

// writable judges by the mode: what access lists or the mount say comes out at
// the engine's start.
func writable(dir string) error {
	info, err := os.Stat(dir)
	if err == nil && info.Mode().Perm()&0o222 == 0 {
		err = os.ErrPermission
	}
	return err
}
