package main

import "runtime/debug"

// heapGrowth is by how many percent the heap may grow until the garbage
// collector runs; Go's own default is 100. While a commit of 500,000 rows is
// read, half of it takes a third off the memory that the process has, for a
// twentieth more processor time.
const heapGrowth = 50

// spareMemory lets the garbage collector run more often, unless the operator
// has said how often in GOGC.
func (p *program) spareMemory() {
	if p.getenv("GOGC") == "" {
		debug.SetGCPercent(heapGrowth)
	}
}
