package torture

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gorilla/websocket"
)

// A question that is asked of a connection which has just ended gets no answer,
// and nobody waits for one: the engine was killed, and owes none.
func TestNobodyWaitsForTheAnswerOfAnEndedConnection(t *testing.T) {
	t.Parallel()
	die := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		conn, err := (&websocket.Upgrader{}).Upgrade(w, req, nil)
		if err != nil {
			t.Error(err)
			return
		}
		<-die
		_ = conn.NetConn().Close() // as a killed process: without a goodbye
	}))
	defer server.Close()
	conn, _, err := websocket.DefaultDialer.Dial("ws"+server.URL[len("http"):], nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s := &session{r: &reader{}, conn: conn, unheard: make(map[string]int), answers: make(map[string]chan answer), finished: make(chan struct{})}
	go s.read()
	before := s.expect("before")
	close(die)
	<-s.finished
	behind := s.expect("behind")
	if err := s.send(map[string]string{"type": "ping", "ref": "behind"}); err != nil {
		t.Logf("the kernel did not take it: %v", err)
	}
	for _, from := range []<-chan answer{before, behind} {
		if a, ok := <-from; ok {
			t.Errorf("answered with %+v, want none", a)
		}
		if _, err := s.await(from); !errors.Is(err, errGone) {
			t.Errorf("await = %v, want %v", err, errGone)
		}
	}
}
