//go:build !race

package harness

const raceChecked = false
