package gateway

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A crowd of connections that ask for nothing shuts nobody out, and what is
// being answered is never cut off for it.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	t.Parallel()
	const most = 20
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := prometheus.NewCounter(prometheus.CounterOpts{Name: "refused"})
	waiting := newLobby(ln, most, func() int { return 0 }, refused)
	begun, release := make(chan struct{}, most), make(chan struct{})
	server := &http.Server{ConnState: waiting.note, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			begun <- struct{}{}
			<-release
		}
		_, _ = io.WriteString(w, "served")
	})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(waiting) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	dial := func() net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(patience))
		return conn
	}
	get := func(conn net.Conn, path string) (status int, err error) {
		if _, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			return 0, err
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return 0, err
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode, nil
	}
	for range 5 * most { // far more than fit, none of which says anything
		dial()
	}
	for range 10 {
		if status, err := get(dial(), "/"); status != 200 {
			t.Fatalf("beside idle connections a request is answered %d, %v", status, err)
		}
	}
	answered := func() bool { // the server knows only behind the answer that it has given it
		waiting.mu.Lock()
		defer waiting.mu.Unlock()
		for _, state := range waiting.here {
			if state == http.StateActive {
				return false
			}
		}
		return true
	}
	settle := func() {
		t.Helper()
		for deadline := time.Now().Add(patience); !answered(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("a connection with an answer is not idle")
			}
		}
	}
	settle()
	answers := make(chan int, most)
	for range most { // those that are being answered fill the place
		conn := dial()
		go func() {
			status, _ := get(conn, "/slow")
			answers <- status
		}()
		select {
		case <-begun:
		case status := <-answers:
			t.Fatalf("a request is answered %d instead of an idle connection closed", status)
		}
	}
	status, err := get(dial(), "/")
	if status != http.StatusServiceUnavailable && err == nil {
		t.Errorf("over the limit a request is answered %d, want 503 or a closed connection", status)
	}
	close(release)
	for range most {
		if status := <-answers; status != 200 {
			t.Errorf("a request that was being answered got %d", status)
		}
	}
	settle()
	if status, err := get(dial(), "/"); status != 200 {
		t.Errorf("when there is room again a request is answered %d, %v", status, err)
	}
}

func TestConnectionsLeaveFilesToTheRest(t *testing.T) {
	for files, want := range map[uint64]int{0: 0, 256: 192, 1024: 768, 4000: 3000, 20_000: 19_000, 1 << 40: 0} {
		if got := mostConnections(files); got != want {
			t.Errorf("of %d files %d connections, want %d", files, got, want)
		}
	}
}
