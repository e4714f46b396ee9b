// Package site is the demo's page and the little server behind it: an editor
// who runs SQL, tokens for readers, and what arrived in the offline topic.
//
// It promises that only a page of its own runs that SQL: a request that names
// another host, or that comes from another site's page, is refused, and the SQL
// runs as a role that may write articles and nothing else.
package site

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"

	"newswire/ack/compensate/channel/local"
)

//go:embed web
var web embed.FS

// Config is what the page works with. All fields are required but Host, Devices
// and Phone.
type Config struct {
	Host      string                            // a name beside the loopback ones that the page may be asked for by
	Secret    []byte                            // signs readers' tokens; the gateway checks them with the same
	EditorDSN string                            // the CMS database, as the role that the SQL runs as
	Topic     string                            // where the engine hands over what nobody acknowledged
	Devices   string                            // port of the devices API, on the page's host
	Phone     func(reader string) []local.Shown // what a reader's telephone shows, newest first
	Commands  Commands                          // shown on the page
}

// Commands are what the page's user can paste into a shell.
type Commands struct {
	Psql string `json:"psql"` // inserts an article
	Kcat string `json:"kcat"` // reads the offline topic
}

// Site serves the page. ServeHTTP may be called from many goroutines, also
// before and after Run.
type Site struct {
	cfg      Config // fixed by New
	log      *slog.Logger
	instance string        // fixed by New: tells one demo directory from another
	handler  http.Handler  // fixed by New
	offline  *ring         // filled by Run
	editor   chan struct{} // holds one token: SQL runs one request at a time
}

// New checks the configuration.
func New(cfg Config, log *slog.Logger) (*Site, error) {
	if len(cfg.Secret) == 0 || cfg.EditorDSN == "" || cfg.Topic == "" {
		return nil, errors.New("check demo page: Secret, EditorDSN and Topic are required")
	}
	sum := sha256.Sum256(cfg.Secret)
	s := &Site{
		cfg:      cfg,
		log:      log,
		instance: hex.EncodeToString(sum[:6]),
		offline:  newRing(),
		editor:   make(chan struct{}, 1),
	}
	mux := http.NewServeMux()
	for path, file := range pages {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "no-cache")
			http.ServeFileFS(w, r, web, "web/"+file)
		})
	}
	mux.HandleFunc("GET /demo/info", s.info)
	mux.HandleFunc("GET /demo/token", s.token)
	mux.HandleFunc("GET /demo/offline", s.listOffline)
	mux.HandleFunc("GET /demo/phones", s.listPhones)
	mux.HandleFunc("POST /demo/sql", s.sql)
	s.handler = s.own(http.NewCrossOriginProtection().Handler(mux))
	return s, nil
}

// pages are the files of the page, by path.
var pages = map[string]string{
	"/{$}":             "index.html",
	"/demo/app.css":    "app.css",
	"/demo/app.js":     "app.js",
	"/demo/editor.js":  "editor.js",
	"/demo/reader.js":  "reader.js",
	"/demo/offline.js": "offline.js",
	"/demo/phones.js":  "phones.js",
	"/demo/old.html":   "old.html",
	"/demo/old.js":     "old.js",
	"/demo/old.css":    "old.css",
}

// ServeHTTP serves the page and what it asks for.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// own answers only who asks for this site by a name of its own, and tells the
// browser to load nothing from elsewhere. Without the first, a foreign page
// whose name is made to point here could run SQL.
func (s *Site) own(next http.Handler) http.Handler {
	names := []string{"localhost", "127.0.0.1", "::1"}
	if s.cfg.Host != "" {
		names = append(names, s.cfg.Host)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !slices.Contains(names, hostname(r.Host)) {
			problem(w, http.StatusMisdirectedRequest, fault{
				Code:    "wrong_host",
				Message: fmt.Sprintf("This demo answers to %s only, not to %q.", strings.Join(names, ", "), r.Host),
			})
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "+
			"connect-src 'self' ws://"+r.Host+" wss://"+r.Host+s.devices(r.Host)+"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		next.ServeHTTP(w, r)
	})
}

// devices is the origin of the devices API, for a page of this host.
func (s *Site) devices(host string) string {
	if s.cfg.Devices == "" {
		return ""
	}
	return " http://" + net.JoinHostPort(hostname(host), s.cfg.Devices)
}

// hostname is the host of a Host header, without port and brackets.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return strings.ToLower(name)
	}
	return strings.ToLower(strings.Trim(host, "[]"))
}

func (s *Site) info(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, struct {
		Instance string   `json:"instance"`
		Topic    string   `json:"topic"`
		Devices  string   `json:"devices_port"`
		Commands Commands `json:"commands"`
	}{s.instance, s.cfg.Topic, s.cfg.Devices, s.cfg.Commands})
}

// fault is the body of an answer that is none.
type fault struct {
	Code    string `json:"code"` // of PostgreSQL, where it refused
	Message string `json:"message"`
	Detail  string `json:"detail,omitempty"`
	Hint    string `json:"hint,omitempty"`
}

func problem(w http.ResponseWriter, status int, f fault) { answer(w, status, f) }

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // an error means that the browser has gone
}
