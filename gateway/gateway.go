// Package gateway is where readers meet Newswire: WebSocket sessions in pools,
// short polling, acknowledgements and subscriptions over HTTP.
//
// It sends nothing that the ledger has not opened an account for, and keeps
// nothing of its own: a session that falls behind, or comes back, reads from
// the journal what its reader has not acknowledged.
package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"newswire/fanout"
	"newswire/fanout/journal"
	"newswire/gateway/tokens"

	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

// Ledger keeps account of what readers were sent and have read.
type Ledger interface {
	// Sent notes attempts before they are written to a reader, SentToMany one
	// before it is written to many; Unsent takes back those whose write failed.
	Sent(journal.Reader, []journal.Attempt) error
	SentToMany(journal.Attempt, []journal.Reader) error
	Unsent(journal.Reader, []journal.Attempt) error
	// Opened gives the last message that was routed, or is about to be.
	Opened() journal.Seq
	// Ack notes acknowledgements; what was not sent to this reader is ignored.
	// Receive does so for many readers.
	Ack(journal.Reader, []journal.ID) error
	Receive([]journal.Receipt) error
	// Read notes what a poll has brought.
	Read(journal.Reader, []journal.Seq) error
	// Unread gives, in order, at most limit of what lies behind after and was
	// not read; it is complete up to through.
	Unread(r journal.Reader, after journal.Seq, limit int) (unread []journal.Attempt, through journal.Seq, err error)
}

// Journal is what the gateway reads of the journal.
type Journal interface {
	Message(journal.Seq) (m *journal.Message, kept bool, err error)
	Find(journal.ID) (journal.Place, error)
	Oldest() journal.Seq // the first entry that is kept
	WaitSynced(context.Context, journal.Seq) error
	Next(ctx context.Context, after journal.Seq, limit int) ([]journal.Entry, error)

	// The gateway keeps revocations, and the last keys of a JWKS, beside it.
	View(read func(journal.View) error) error
	Apply(ctx context.Context, u journal.Update, done func(error)) error
	ApplySync(context.Context, journal.Update) error
}

// Router tells how far messages were handed to the pools.
type Router interface {
	WaitRouted(context.Context, journal.Seq) error
}

// Config says how readers come in.
type Config struct {
	Listen         string
	Origins        []string // exactly as browsers send them
	CertFile       string   // with KeyFile: TLS
	KeyFile        string
	MinTLS         uint16 // least version, as crypto/tls names it; 0 means 1.2
	ProxyProtocol  bool   // trusted proxies begin each connection with the header of the PROXY protocol
	Auth           Auth
	Anonymous      bool // guests come in without a token, over WebSocket
	Limits         Limits
	TrustedProxies []netip.Prefix // who are believed whose request, or connection, they bring
	Drain          time.Duration  // over which sessions are sent away at the end
	AckTimeout     time.Duration  // told to clients; how long a poll counts as a connection
	PingEvery      time.Duration  // 0 means 25 s
	Site           http.Handler   // serves what is not the gateway's; nil: 404

	// Forget makes others forget a reader who wants to be: the compensation
	// service's devices. It is called before the reader is deleted here, so that a
	// reader who got no answer can ask again; nil: nobody else keeps anything.
	Forget func(ctx context.Context, reader string) error
}

// Limits bound what readers may use; 0 means no limit.
type Limits struct {
	Sessions            int
	SessionsPerReader   int
	SessionsPerIP       int
	HandshakesPerSecond int
	FramesPerSecond     int // acknowledgements are not counted
	TagsPerReader       int
}

// deps is what sessions and pools share.
type deps struct {
	ledger     Ledger
	journal    Journal
	log        *slog.Logger
	m          *metrics
	pingEvery  time.Duration
	ackTimeout time.Duration

	writeTimeout time.Duration // for each write to a socket
	behind       *behind
	replays      replays
}

// Gateway serves readers.
type Gateway struct {
	cfg      Config // fixed by New
	deps     *deps
	readers  *fanout.Readers
	pools    *Pools
	router   Router
	verifier *tokens.Verifier
	revoked  *revocations
	upgrader websocket.Upgrader
	door     *door
	log      *slog.Logger

	open  context.Context    // ends when the drain begins
	close context.CancelFunc // ends open
	life  context.Context    // of what sessions ask for; ends when a drain has waited long enough
	kill  context.CancelFunc // ends life

	unpolled bool      // a goroutine waits for each connection, as on systems without a poller
	pollers  []*poller // fixed while Run serves; none where unpolled
	accepted atomic.Uint32

	address  atomic.Value // net.Addr, once Run listens
	entrance sync.Mutex   // held while draining becomes true, and while running grows
	draining atomic.Bool
	running  sync.WaitGroup // sessions and handshakes
	present  roster
	polling  turns
}

// NewPools makes the pools that a router delivers to.
func NewPools(cfg Config, l Ledger, j Journal, log *slog.Logger, reg prometheus.Registerer) *Pools {
	d := &deps{ledger: l, journal: j, log: log, pingEvery: cfg.PingEvery, ackTimeout: cfg.AckTimeout, writeTimeout: writeTimeout, behind: newBehind()}
	if d.pingEvery == 0 {
		d.pingEvery = 25 * time.Second
	}
	ps := &Pools{deps: d}
	if cfg.Anonymous {
		ps.crowd = fanout.NewCrowd(l.Opened())
		d.ledger = &guestBook{l, ps.crowd, j}
	}
	// Writing keeps a processor busy with the network's work. The other half is for
	// those who route, read and keep accounts: when all write, each write is dearer.
	for range max(1, runtime.GOMAXPROCS(0)/2) {
		ps.pools = append(ps.pools, newPool(d))
	}
	d.m = newMetrics(reg, ps)
	return ps
}

// New checks the configuration. It starts nothing.
func New(cfg Config, ps *Pools, readers *fanout.Readers, router Router, log *slog.Logger) (*Gateway, error) {
	if cfg.Auth.JWKSURL != "" && cfg.Auth.Cache == nil {
		cfg.Auth.Cache = jwksCache{ps.deps.journal}
	}
	if cfg.MinTLS == 0 {
		cfg.MinTLS = tls.VersionTLS12
	}
	v, err := tokens.New(cfg.Auth, log)
	if err != nil {
		return nil, err
	}
	revoked, err := loadRevocations(ps.deps.journal)
	if err != nil {
		return nil, err
	}
	g := &Gateway{
		cfg: cfg, deps: ps.deps, readers: readers, pools: ps, router: router, verifier: v, revoked: revoked,
		door: newDoor(cfg, ps.deps.m), log: log, polling: turns{held: make(map[journal.Reader]*turn)},
		present: roster{sessions: make(map[*session]struct{})},
	}
	g.life, g.kill = context.WithCancel(context.Background())
	g.open, g.close = context.WithCancel(g.life)
	g.upgrader = websocket.Upgrader{
		HandshakeTimeout: 5 * time.Second,
		ReadBufferSize:   125, // the least: nothing is read by it
		WriteBufferSize:  512,
		WriteBufferPool:  new(sync.Pool),
		Subprotocols:     []string{subprotocol},
		CheckOrigin:      g.allowedOrigin,
		Error:            upgradeError,
	}
	return g, nil
}

// Addr gives the address that Run listens on; nil before it does.
func (g *Gateway) Addr() net.Addr {
	addr, _ := g.address.Load().(net.Addr)
	return addr
}

// Ready tells whether readers are admitted, or why not.
func (g *Gateway) Ready() error {
	switch {
	case g.draining.Load():
		return errors.New("gateway is draining")
	case g.Addr() == nil:
		return errors.New("gateway does not listen yet")
	}
	return g.verifier.Ready()
}

// Run serves readers until ctx ends, or it cannot any more; then it admits
// nobody, sends every session away within Config.Drain, and returns when all have
// gone.
func (g *Gateway) Run(ctx context.Context) error {
	f, err := g.newFront()
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	closePollers, err := g.openPollers(group)
	if err != nil {
		return errors.Join(err, f.listener.Close())
	}
	watching, unwatch := context.WithCancel(context.Background())
	group.Go(func() error { g.watch(watching); return nil })
	group.Go(func() error { return g.verifier.Run(ctx) })
	group.Go(func() error { return g.revoked.run(ctx) })
	g.address.Store(f.listener.Addr())
	f.serve(ctx, group)
	<-ctx.Done()
	g.entrance.Lock()
	g.draining.Store(true)
	g.entrance.Unlock()
	g.close()
	g.drain()
	g.kill()
	f.stop()
	unwatch()
	closePollers()
	return group.Wait()
}

// drainRate is how many sessions are sent away a second when the window does
// not ask for more: so many can reconnect elsewhere without a stampede.
const drainRate = 500

// drain says goodbye to every session, spread over the drain window, and waits
// for them to go.
func (g *Gateway) drain() {
	sessions := g.present.all()
	rand.Shuffle(len(sessions), func(a, b int) { sessions[a], sessions[b] = sessions[b], sessions[a] })
	window := min(g.cfg.Drain*8/10, time.Duration(len(sessions))*time.Second/drainRate)
	const steps = 50
	for chunk := range slices.Chunk(sessions, max(1, (len(sessions)+steps-1)/steps)) {
		for _, s := range chunk {
			s.end(endDraining, time.Duration(500+rand.IntN(1500))*time.Millisecond)
		}
		time.Sleep(window / steps)
	}
	gone := make(chan struct{})
	go func() { g.running.Wait(); close(gone) }()
	select {
	case <-gone:
		return
	case <-time.After(2 * closeTimeout):
	}
	g.kill() // who waits for the journal
	for _, s := range g.present.all() {
		s.drop(endDraining)
	}
	<-gone
}

func (g *Gateway) allowedOrigin(r *http.Request) bool {
	origins := r.Header.Values("Origin") // programs send none
	return len(origins) == 0 || len(origins) == 1 && slices.Contains(g.cfg.Origins, origins[0])
}
