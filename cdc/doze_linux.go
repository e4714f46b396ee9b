package cdc

import (
	"syscall"
	"time"
)

// doze sleeps for about so long, or less. The runtime's own timers are of no use
// below a millisecond: it waits for the network in whole ones.
func doze(d time.Duration) {
	t := syscall.NsecToTimespec(d.Nanoseconds())
	_ = syscall.Nanosleep(&t, nil) // a signal may end it early
}
