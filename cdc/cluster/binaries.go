package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// ErrNoBinaries reports that this machine has no PostgreSQL server programs.
var ErrNoBinaries = errors.New("no PostgreSQL server programs (postgres, initdb, pg_ctl) found")

// programs must lie in one directory for it to count as an installation: a
// lone postgres may be a wrapper, or the rest of a removed package.
var programs = []string{"postgres", "initdb", "pg_ctl"}

// packaged is where distributions put server programs outside PATH.
var packaged = []string{
	"/usr/lib/postgresql/*/bin",              // Debian, Ubuntu
	"/usr/pgsql-*/bin",                       // PostgreSQL's own RPMs
	"/opt/homebrew/opt/postgresql@*/bin",     // Homebrew on ARM
	"/usr/local/opt/postgresql@*/bin",        // Homebrew on Intel
	"/Library/PostgreSQL/*/bin",              // EDB's installer on macOS
	"/Applications/Postgres.app/*/*/bin",     // Postgres.app
	"/run/current-system/sw/bin",             // NixOS
	"/usr/libexec/postgresql*",               // Alpine
	"/usr/local/pgsql/bin", "/opt/pgsql/bin", // built from source
}

// FindBinaries gives the directory of PostgreSQL's server programs: hint where
// it is given, else the one on PATH, else the newest of the packaged ones. A
// hint without the programs is an error and not a reason to look elsewhere.
func FindBinaries(hint string) (string, error) {
	if hint != "" {
		dir, ok := installation(hint)
		if !ok {
			return "", fmt.Errorf("%w in %s: name the directory that holds them all, such as /usr/lib/postgresql/15/bin", ErrNoBinaries, hint)
		}
		return dir, nil
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		if dir, ok := installation(filepath.Dir(path)); ok {
			return dir, nil
		}
	}
	if dir, ok := newest(packaged); ok {
		return dir, nil
	}
	return "", fmt.Errorf("%w on PATH or where packages put them: install them (apt-get install postgresql) or name their directory", ErrNoBinaries)
}

// newest gives the installation with the highest version among those that
// match the patterns.
func newest(patterns []string) (string, bool) {
	var dirs []string
	for _, pattern := range patterns {
		found, _ := filepath.Glob(pattern) // its only error is a malformed pattern, and these are ours
		dirs = append(dirs, found...)
	}
	slices.SortStableFunc(dirs, func(a, b string) int {
		return slices.Compare(numbers(b), numbers(a))
	})
	for _, dir := range dirs {
		if dir, ok := installation(dir); ok {
			return dir, true
		}
	}
	return "", false
}

// numbers gives the numbers in a path, so that 9.6 sorts below 15.
func numbers(path string) []int {
	var found []int
	for _, field := range strings.FieldsFunc(path, func(r rune) bool { return r < '0' || r > '9' }) {
		if n, err := strconv.Atoi(field); err == nil {
			found = append(found, n)
		}
	}
	return found
}

// installation reports whether dir holds every program, and resolves links:
// PostgreSQL finds its libraries from where its program really lies.
func installation(dir string) (string, bool) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", false
	}
	real, err := filepath.EvalSymlinks(filepath.Join(dir, programs[0]))
	if err != nil {
		return "", false
	}
	for _, home := range []string{filepath.Dir(real), dir} {
		if complete(home) {
			return home, true
		}
	}
	return "", false
}

func complete(dir string) bool {
	for _, program := range programs {
		info, err := os.Stat(filepath.Join(dir, program))
		if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			return false
		}
	}
	return true
}
