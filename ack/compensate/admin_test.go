package compensate

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestReadinessTellsEachReasonOnALine(t *testing.T) {
	s := &Service{}
	s.cancels = newCancellations(s)
	s.state.database = errors.New("failed to connect:\n\thost one: refused\n\thost two: refused")
	s.state.intake, s.state.intakeAt = errors.New("not read"), time.Now()
	recorder := httptest.NewRecorder()
	s.serveReady(recorder, nil)
	if want := []string{"database: failed to connect: host one: refused host two: refused", "intake: not read", ""}; recorder.Code != http.StatusServiceUnavailable || recorder.Body.String() != strings.Join(want, "\n") {
		t.Errorf("%d %q, want %q", recorder.Code, recorder.Body, want)
	}
	s.state.database, s.state.intakeAt = nil, time.Now().Add(-intakeMemory)
	if !s.Ready() {
		t.Errorf("an old fault of the intake is told: %q", s.reasons())
	}
}
