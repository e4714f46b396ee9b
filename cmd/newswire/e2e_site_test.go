package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"newswire/cdc/pgtest"
	"newswire/cmd/newswire/internal/harness"
	"newswire/gateway/browser/browsertest"
	"newswire/gateway/gatewaytest"
)

// newsSite is a news site on an origin of its own, whose readers reach the
// engine through a proxy that can let them down.
type newsSite struct {
	t       *testing.T
	db      *pgtest.DB
	engine  *harness.Engine
	url     string // of the site
	gateway string // of the proxy, as pages know the gateway
	policy  string // Content-Security-Policy of the pages

	connections connections // of the proxy
	noSockets   atomic.Bool // the proxy refuses WebSockets
	ttl         time.Duration

	mu     sync.Mutex     // guards the rest
	tokens map[string]int // given to each reader
}

// openSite starts an engine and a site. Its pages are sent with the policy that
// the README asks for.
func openSite(t *testing.T, o harness.Options) *newsSite {
	t.Helper()
	s := &newsSite{t: t, ttl: time.Hour, tokens: make(map[string]int)}
	pages := httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(pages.Close)
	s.url = pages.URL
	s.db = pgtest.New(t)
	o.DB, o.Env = s.db, append(o.Env, "NEWSWIRE_GATEWAY_ORIGINS="+s.url)
	s.engine = harness.Start(t, o)

	target := &url.URL{Scheme: "http", Host: s.engine.Gateway}
	forward := &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host },
		Transport:    &http.Transport{DisableKeepAlives: true},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	proxy := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.noSockets.Load() && r.Header.Get("Upgrade") != "" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		forward.ServeHTTP(w, r)
	}))
	s.connections.Listener = proxy.Listener
	proxy.Listener = &s.connections
	proxy.Start()
	t.Cleanup(func() { s.connections.cut(); proxy.Close() })
	s.gateway = proxy.URL
	s.policy = s.here(readme(t, "Content-Security-Policy needs", "```\n", "\n```"))
	return s
}

// here is a text of the README with this site's gateway in it.
func (s *newsSite) here(text string) string {
	socket := strings.Replace(s.gateway, "http", "ws", 1)
	return strings.NewReplacer("https://push.example.com", s.gateway, "wss://push.example.com", socket).Replace(text)
}

// readme gives what stands between two marks behind a phrase of the README.
func readme(t *testing.T, phrase, from, to string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), phrase)
	_, rest, begun := strings.Cut(rest, from)
	part, _, ended := strings.Cut(rest, to)
	if !found || !begun || !ended {
		t.Fatalf("the README has nothing between %q and %q behind %q", from, to, phrase)
	}
	return part
}

// connections are a listener's, to be cut as a dying network cuts them.
type connections struct {
	net.Listener
	mu   sync.Mutex // guards the rest
	open []net.Conn
}

func (c *connections) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.mu.Lock()
		c.open = append(c.open, conn)
		c.mu.Unlock()
	}
	return conn, err
}

func (c *connections) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.open {
		_ = conn.Close()
	}
	c.open = nil
}

const sitePage = `<!doctype html>
<meta charset="utf-8">
<title>Site</title>
<p>loading</p>
<ul></ul>
<script type="module" src="/page.js"></script>
`

const siteScript = `import { connect } from "https://push.example.com/newswire.js";

const reader = new URLSearchParams(location.search).get("reader");
window.states = [];
window.restored = false;
addEventListener("pageshow", (event) => (window.restored = event.persisted));
window.news = connect({
  url: "https://push.example.com",
  follow: [reader],
  getToken: reader === "guest" ? undefined : () => fetch("/token?reader=" + reader).then((answer) => answer.text()),
  onMessage: ({ data }) => {
    document.querySelector("ul").append(Object.assign(document.createElement("li"), { textContent: data.title }));
  },
  onState: (change) => {
    states.push(change);
    document.querySelector("p").textContent = [change.state, change.transport, change.reason].filter(Boolean).join(", ");
  },
});
`

func (s *newsSite) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Security-Policy", "default-src 'none'; base-uri 'none'; "+s.policy)
	switch r.URL.Path {
	case "/":
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte(sitePage))
	case "/page.js":
		w.Header().Set("Content-Type", "text/javascript")
		_, _ = w.Write([]byte(s.here(siteScript)))
	case "/token", "/my-token":
		_, _ = w.Write([]byte(s.token(r.FormValue("reader"))))
	case "/empty": // with the README's lines pasted into it
		w.Header().Del("Content-Security-Policy")
		w.Header().Set("Content-Type", "text/html")
		lines := "<script type=\"module\">" + readme(s.t, "**4. Read.**", "<script type=\"module\">", "</script>") + "</script>"
		_, _ = w.Write([]byte("<!doctype html><title>Empty</title><body>" + s.here(lines)))
	case "/elsewhere":
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<!doctype html><title>Elsewhere</title>"))
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (s *newsSite) token(reader string) string {
	s.mu.Lock()
	s.tokens[reader]++
	s.mu.Unlock()
	if reader == "" {
		reader = "somebody"
	}
	return s.engine.Token(reader, gatewaytest.Claims{"exp": time.Now().Add(s.ttl).Unix()})
}

// sitePageOf is a reader's page in a tab.
type sitePageOf struct {
	*browsertest.Tab
	site   *newsSite
	reader string
}

// open loads the page of a reader, who follows the tag of the same name, and
// waits until it is online.
func (s *newsSite) open(t *testing.T, reader string) *sitePageOf {
	t.Helper()
	p := &sitePageOf{browsertest.Open(t), s, reader}
	p.Load(s.url + "/?reader=" + reader)
	p.until("it is online", `states.at(-1)?.state === "online"`)
	return p
}

// article commits one for the page's reader.
func (p *sitePageOf) article(title string) { article(p.site.db, title, p.reader) }

// until waits for a condition in JavaScript.
func (p *sitePageOf) until(what, condition string) {
	if !browsertest.Until(p.Tab, func() bool { return browsertest.Eval[bool](p.Tab, "Boolean("+condition+")") }) {
		p.fail(what)
	}
}

// shows waits until the page lists exactly these, in this order.
func (p *sitePageOf) shows(titles ...string) {
	var got []string
	if !browsertest.Until(p.Tab, func() bool {
		got = browsertest.Eval[[]string](p.Tab, `[...document.querySelectorAll("li")].map((li) => li.textContent)`)
		return slices.Equal(got, titles)
	}) {
		p.fail(fmt.Sprintf("it shows %q; it shows %q", titles, got))
	}
}

func (p *sitePageOf) fail(what string) {
	p.site.t.Fatalf("waited in vain until %s; states: %s", what, browsertest.Eval[string](p.Tab, "JSON.stringify(states)"))
}

// count tells in how many steps of the connection a condition on s holds.
func (p *sitePageOf) count(condition string) int {
	return browsertest.Eval[int](p.Tab, "states.filter((s) => "+condition+").length")
}
