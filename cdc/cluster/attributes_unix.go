//go:build unix && !linux

package cluster

import "syscall"

// attributes cannot ask this kernel to end the server when we are killed; the
// next Start finds the server still running and says so.
func attributes(a account) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if a.name != "" {
		attr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
	}
	return attr
}
