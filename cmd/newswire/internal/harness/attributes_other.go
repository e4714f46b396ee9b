//go:build !linux

package harness

import "syscall"

// attributes cannot ask this kernel to kill a child with the tests.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }
