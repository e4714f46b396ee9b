package gateway

import (
	"errors"
	"testing"
	"time"
)

// Where sockets cannot be watched any more, the gateway does not go on as if
// they were.
func TestAPollerThatFailsEndsTheGateway(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ended := make(chan error, 1)
	other, err := New(r.gateway.cfg, r.pools, r.readers, r.router, r.gateway.log)
	if err != nil {
		t.Fatal(err)
	}
	go func() { ended <- other.Run(t.Context()) }()
	r.eventually("it listens", func() bool { return other.Ready() == nil })
	if err := other.pollers[0].set.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err == nil {
			t.Error("it ended without a fault")
		}
	case <-time.After(patience):
		t.Error(errors.New("it goes on"))
	}
}
