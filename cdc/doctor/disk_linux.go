package doctor

import "syscall"

// Modes of access(2).
const (
	accessWrite   = 2
	accessExecute = 1 // of a directory: to open what lies in it
)

func writable(dir string) error { return syscall.Access(dir, accessWrite|accessExecute) }
