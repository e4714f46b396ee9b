//go:build unix

package engine

import (
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// foreignOwner tells whether the file exists and is another account's, and
// whose: the name, or the number where it has none.
func foreignOwner(path string) (name string, foreign bool) {
	info, err := os.Stat(path)
	if err != nil {
		return "", false
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(s.Uid) == os.Geteuid() {
		return "", false
	}
	name = strconv.FormatUint(uint64(s.Uid), 10)
	if u, err := user.LookupId(name); err == nil {
		return u.Username, true
	}
	return "#" + name, true // as sudo takes it
}
