//go:build !linux

package cdc

import "time"

// doze sleeps for about so long.
func doze(d time.Duration) { time.Sleep(d) }
