//go:build !unix

package cluster

import "syscall"

// Start refuses where there are no Unix signals, so neither of these is asked.

func attributes(account) *syscall.SysProcAttr { return nil }

func alive(int) bool { return false }
