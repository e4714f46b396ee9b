package harness

import "syscall"

// attributes makes the kernel kill a child when the tests die, however they
// die; a group of its own keeps Ctrl-C from reaching it before them.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
