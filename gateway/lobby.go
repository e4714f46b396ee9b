package gateway

import (
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// lobby is where connections are that are not sessions: those that have not
// asked for anything yet, those that are being answered, and those kept for a
// next request. It keeps them below what the process may open, so that nobody
// takes the files that journal and database need.
type lobby struct {
	net.Listener
	most     int        // connections in all, sessions among them; 0: no limit
	sessions func() int // that hold a connection each
	refused  prometheus.Counter

	mu   sync.Mutex // guards here
	here map[net.Conn]http.ConnState
}

func newLobby(ln net.Listener, most int, sessions func() int, refused prometheus.Counter) *lobby {
	return &lobby{Listener: ln, most: most, sessions: sessions, refused: refused, here: make(map[net.Conn]http.ConnState)}
}

// Accept gives the next connection for which there is room. Where there is none
// it is made by one that asks for nothing at the moment, whichever; so a crowd
// of idle connections shuts nobody out.
func (l *lobby) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.room() {
			return c, nil
		}
		turnAway(c)
	}
}

// room tells whether one more may come.
func (l *lobby) room() bool {
	if l.most == 0 {
		return true
	}
	sessions := l.sessions()
	l.mu.Lock()
	var idle net.Conn
	full := len(l.here)+sessions >= l.most
	if full {
		for c, state := range l.here { // in no order
			if state != http.StateActive {
				idle = c
				delete(l.here, c)
				break
			}
		}
	}
	l.mu.Unlock()
	switch {
	case !full:
		return true
	case idle == nil:
		l.refused.Inc()
		return false
	}
	_ = plain(idle).Close()
	return true
}

// note is told of every change by net/http.
func (l *lobby) note(c net.Conn, state http.ConnState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch state {
	case http.StateClosed, http.StateHijacked:
		delete(l.here, c)
	default:
		l.here[c] = state
	}
}

// turnAway closes a connection with an answer, where that can be given at once.
func turnAway(c net.Conn) {
	if _, secret := c.(*tls.Conn); !secret {
		_ = c.SetWriteDeadline(time.Now().Add(time.Second)) // an empty socket takes it without waiting
		_, _ = c.Write([]byte("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"))
	}
	_ = plain(c).Close()
}

// reservedFiles is what is left to everything else: the journal's tables, the
// database, Kafka. A process that may open few keeps a quarter.
const reservedFiles = 1000

// mostConnections is how many connections fit into what may be open; 0 when
// nothing limits that.
func mostConnections(files uint64) int {
	if files == 0 || files > 1<<30 {
		return 0
	}
	return int(files - min(reservedFiles, files/4))
}
