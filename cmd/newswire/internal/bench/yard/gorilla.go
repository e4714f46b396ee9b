//go:build linux

package yard

import (
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// chat is the usual pattern, after the chat example of gorilla/websocket: for each
// connection a goroutine that reads, one that writes, and a channel between the
// hub and it. A message is encoded once, as a websocket.PreparedMessage.
type chat struct {
	listener net.Listener
	server   *http.Server
	served   chan error

	mu      sync.Mutex // guards clients
	clients map[*client]bool
}

type client struct {
	conn *websocket.Conn
	send chan *websocket.PreparedMessage // the hub sends, write receives; closed by read's end
}

// As in the example.
const (
	writeWait  = 10 * time.Second
	pongWait   = 60 * time.Second
	pingPeriod = pongWait * 9 / 10
	sendQueue  = 256
)

func newGorilla(listen string) (*chat, error) {
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, err
	}
	c := &chat{listener: ln, served: make(chan error, 1), clients: make(map[*client]bool)}
	upgrader := websocket.Upgrader{ReadBufferSize: 1024, WriteBufferSize: 1024}
	c.server = &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return // answered
		}
		one := &client{conn, make(chan *websocket.PreparedMessage, sendQueue)}
		c.mu.Lock()
		c.clients[one] = true
		c.mu.Unlock()
		go one.write()
		go c.read(one)
	})}
	go func() { c.served <- c.server.Serve(ln) }()
	return c, nil
}

func (c *chat) read(one *client) {
	defer func() {
		c.mu.Lock()
		delete(c.clients, one)
		close(one.send)
		c.mu.Unlock()
		_ = one.conn.Close()
	}()
	one.conn.SetReadLimit(512)
	_ = one.conn.SetReadDeadline(time.Now().Add(pongWait))
	one.conn.SetPongHandler(func(string) error { return one.conn.SetReadDeadline(time.Now().Add(pongWait)) })
	for {
		if _, _, err := one.conn.ReadMessage(); err != nil {
			return
		}
	}
}

func (one *client) write() {
	ticker := time.NewTicker(pingPeriod)
	defer func() { ticker.Stop(); _ = one.conn.Close() }()
	for {
		select {
		case m, ok := <-one.send:
			_ = one.conn.SetWriteDeadline(time.Now().Add(writeWait))
			if !ok || one.conn.WritePreparedMessage(m) != nil {
				return
			}
		case <-ticker.C:
			_ = one.conn.SetWriteDeadline(time.Now().Add(writeWait))
			if one.conn.WriteMessage(websocket.PingMessage, nil) != nil {
				return
			}
		}
	}
}

func (c *chat) address() string { return c.listener.Addr().String() }

// publish waits where a channel is full: the example drops the connection, and
// then nothing could be compared.
func (c *chat) publish(n int, at time.Time) error {
	m, err := websocket.NewPreparedMessage(websocket.TextMessage, frame(n, at))
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for one := range c.clients {
		one.send <- m
	}
	return nil
}

func (c *chat) owed() (int, error) { return 0, nil }

func (c *chat) close() error {
	err := c.server.Close() // knows nothing of the connections it gave away
	if served := <-c.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for one := range c.clients {
		_ = one.conn.Close()
	}
	return err
}

// acceptKey proves that a handshake was read (RFC 6455, 4.2.2).
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}
