//go:build race

package harness

const raceChecked = true
