package compensate

import (
	"testing"
	"time"
)

// Of two answers that tell to wait, the longer counts: calls are under way when the
// first comes.
func TestAChannelWaitsForAsLongAsItWasEverTold(t *testing.T) {
	l := new(lane)
	l.stop(10 * time.Minute)
	l.stop(time.Second)
	if wait := time.Until(time.Unix(0, l.resume.Load())); wait < 5*time.Minute {
		t.Errorf("it waits for %s, and was told ten minutes", wait)
	}
}
