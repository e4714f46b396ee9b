package gateway

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"newswire/fanout/journal"

	"github.com/gorilla/websocket"
)

// turnstile lets one goroutine at a time read a session. Who comes meanwhile
// leaves word, and the one that reads looks once more.
type turnstile struct{ state atomic.Int32 }

const (
	turnFree int32 = iota
	turnTaken
	turnWanted // taken, and somebody has come meanwhile
)

// take is true for who may read now.
func (t *turnstile) take() bool {
	for {
		switch {
		case t.state.CompareAndSwap(turnFree, turnTaken):
			return true
		case t.state.CompareAndSwap(turnTaken, turnWanted), t.state.Load() == turnWanted:
			return false
		}
	}
}

// give ends the turn; false when it goes on, because somebody has come.
func (t *turnstile) give() bool {
	if t.state.CompareAndSwap(turnTaken, turnFree) {
		return true
	}
	t.state.Store(turnTaken)
	return false
}

// ears is what a goroutine needs that reads sessions.
type ears struct {
	hasty   bool // it serves many and must wait for none
	ends    bool // the session's client has closed: what is read is followed by the end
	parser  parser
	input   []byte // what was read, and behind it room
	message []byte // room for a message
	ids     []journal.ID
	acks    []journal.Receipt // to be given to the ledger
	from    []*session        // whose acks they are
}

var spareEars = sync.Pool{New: func() any { return newEars(mostHeld + 2*maxFrame) }}

// leastInput is what a goroutine that waits for one connection reads into.
const leastInput = 1 << 10

func newEars(room int) *ears { return &ears{input: make([]byte, room)} }

// load puts data at the beginning of the input, and makes room behind it.
func (e *ears) load(data []byte) []byte {
	if len(data) == len(e.input) {
		e.input = append(make([]byte, 0, 2*len(data)), data...)
		e.input = e.input[:cap(e.input)]
	}
	return e.input[:copy(e.input, data)]
}

// room gives room for a message.
func (e *ears) room(n int) []byte {
	if n > len(e.message) {
		e.message = make([]byte, n)
	}
	return e.message[:n]
}

// hastyReads is how often a goroutine that serves many reads from one session
// before that gets a goroutine of its own.
const hastyReads = 8

// maxThrown is how much is read and thrown away behind a goodbye, so that the
// client finds it: closing with input unread would make the kernel throw it away.
const maxThrown = 1 << 20

// hear reads a session of which the poller says that something has come.
func (g *Gateway) hear(s *session, e *ears) {
	if !s.turn.take() || !s.use() { // who is over needs no turn
		return
	}
	if work := g.listen(s, e); work != nil {
		go g.attend(s, work)
	}
}

// attend reads a session on a goroutine of its own, behind work; it ends the
// turn, and the use, that it was started with.
func (g *Gateway) attend(s *session, work func(context.Context)) {
	if s.link.waits() {
		for e := newEars(leastInput); work != nil; {
			g.work(s, work)
			work = g.listen(s, e)
		}
		return
	}
	for work != nil {
		g.work(s, work) // without ears: thousands may wait for the journal at once
		e := spareEars.Get().(*ears)
		work = g.listen(s, e)
		spareEars.Put(e)
	}
}

// readOn is the work of a session that is only to be read.
func readOn(context.Context) {}

// work does what a frame asks for, under a context that ends with the session.
func (g *Gateway) work(s *session, work func(context.Context)) {
	ctx, stop := context.WithCancel(g.life)
	defer stop()
	s.mu.Lock()
	s.stop = stop
	if s.ending.code != 0 {
		stop()
	}
	s.mu.Unlock()
	if s.link.waits() { // on a stack of its own: that of the goroutine that waits stays small
		done := make(chan struct{})
		go func() { defer close(done); work(ctx) }()
		<-done
	} else {
		work(ctx)
	}
	s.mu.Lock()
	s.stop = nil
	s.mu.Unlock()
}

// listen acts on what a session's client says until there is no more, or the
// connection ends: then it ends the turn and the use that the caller has. Or it
// gives back what is to be done before the rest is read, and the caller has both
// still.
func (g *Gateway) listen(s *session, e *ears) (work func(context.Context)) {
	data := e.load(s.held)
	s.held = nil
	drained := false // as far as is known without asking
	for reads := 0; ; reads++ {
		rest, work, err := g.understand(s, e, data)
		if err != nil {
			e.settle(g)
			s.cannotRead(err)
			rest = nil
		}
		if work == nil && e.hasty && reads >= hastyReads {
			work = readOn
		}
		if work != nil {
			e.settle(g)
			s.held = keep(rest)
			return work
		}
		if !e.hasty {
			e.settle(g)
		}
		if len(rest) > 0 && reads > 0 && !g.mayAsk(s) { // a part of a message costs as much as one
			s.end(endRateLimited, time.Second)
			s.deaf, rest = true, nil
		}
		data = e.load(rest)
		var n int
		if err = errWait; !drained {
			n, err = s.link.read(e.input[len(data):])
			drained = e.hasty && !e.ends && n < len(e.input)-len(data)
		}
		switch {
		case err == errWait:
			s.held = keep(data)
			if s.turn.give() {
				s.done()
				return nil
			}
			s.held, drained = nil, false
		case err != nil:
			s.drop(endLost)
			s.done()
			return nil
		case s.deaf:
			if s.thrown += n; s.thrown > maxThrown {
				s.drop(endLost)
			}
			data = data[:0]
		default:
			data = e.input[:len(data)+n]
		}
	}
}

// keep copies what must wait for more.
func keep(b []byte) []byte {
	if len(b) == 0 {
		return nil // an idle session keeps no buffer
	}
	return slices.Clone(b)
}

// understand takes the messages in data. What one asks for that may wait comes
// back as work, to be done before the rest.
func (g *Gateway) understand(s *session, e *ears, data []byte) (rest []byte, work func(context.Context), err error) {
	for !s.deaf {
		unit, rest, control, err := cut(data)
		if unit == nil {
			return rest, nil, err
		}
		raw, err := e.parser.parse(s, unit, control, e.room(len(unit)))
		if err != nil {
			return nil, nil, err
		}
		s.heard.Store(int64(uptime()))
		if data = rest; control {
			continue
		}
		if work := g.handle(s, e, raw); work != nil {
			return data, work, nil
		}
	}
	return nil, nil, nil
}

// cannotRead ends the session for the reason that reading did.
func (s *session) cannotRead(err error) {
	s.deaf = true
	var closed *websocket.CloseError
	switch {
	case errors.Is(err, errTooBig):
		s.end(endTooBig, 0)
	case errors.Is(err, errNotText):
		s.end(endBadFrame, 0)
	case errors.As(err, &closed):
		s.part()
	case errors.Is(err, io.ErrUnexpectedEOF):
		s.drop(endLost)
	} // else gorilla has sent its answer to what is no WebSocket
}

// settle gives the ledger the acknowledgements that were read.
func (e *ears) settle(g *Gateway) {
	if len(e.acks) == 0 {
		return
	}
	if err := g.deps.ledger.Receive(e.acks); err != nil {
		for _, s := range e.from {
			s.fail(err)
		}
	}
	clear(e.from)
	e.acks, e.from = e.acks[:0], e.from[:0]
}

// bucket limits how often something may happen. The zero bucket is empty.
type bucket struct {
	spent float64 // of its size, as of the time at
	at    time.Duration
}

// take puts n in and gives how long it takes until it fits: size is let out in
// a second when rate is size.
func (b *bucket) take(n int, rate, size float64) (wait time.Duration) {
	now := uptime()
	b.spent = max(0, b.spent-(now-b.at).Seconds()*rate) + float64(n)
	b.at = now
	return time.Duration((b.spent - size) / rate * float64(time.Second))
}
