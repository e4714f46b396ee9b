//go:build unix

package main

import (
	"os"
	"syscall"
)

// owns tells whether the file exists and is this user's: what another user
// opens for writing could be closed to the engine afterwards.
func owns(path string) bool {
	info, err := os.Stat(path)
	if err != nil {
		return false
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(s.Uid) == os.Geteuid()
}
