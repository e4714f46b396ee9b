package browser_test

import (
	"embed"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"go.uber.org/goleak"

	"newswire/gateway/browser"
	"newswire/gateway/browser/browsertest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 { // a failed test may well leave goroutines
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

//go:embed testdata/page.html testdata/page.js
var pageFiles embed.FS

// page is a page that has loaded the client, and the server it came from.
type page struct {
	*browsertest.Tab
	server  *fakeServer
	mailbox *mailbox // where it polls
	url     string
}

// openPage loads the test page under the policy that sites are told to use.
func openPage(t *testing.T) *page {
	t.Helper()
	server, mailbox := newFakeServer(t), newMailbox(t)
	mux := http.NewServeMux()
	mux.Handle("GET /v1/ws", server)
	mux.Handle("/v1/", mailbox)
	mux.HandleFunc("GET /newswire.js", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		_, _ = w.Write(browser.Script)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", fmt.Sprintf(
			"default-src 'none'; script-src 'self'; connect-src ws://%[1]s http://%[1]s; base-uri 'none'", r.Host))
		name := r.URL.Path
		if name == "/" {
			name = "/page.html"
		}
		http.ServeFileFS(w, r, pageFiles, "testdata"+name)
	})
	site := httptest.NewServer(mux)
	t.Cleanup(site.Close)
	p := &page{Tab: browsertest.Open(t), server: server, mailbox: mailbox, url: site.URL}
	p.Load(p.url)
	return p
}

// sibling is another tab of the same browser on the same site.
func (p *page) sibling() *page {
	other := &page{Tab: p.Beside(), server: p.server, mailbox: p.mailbox, url: p.url}
	other.Load(p.url)
	return other
}

// event is what the page has recorded of one callback.
type event struct {
	Kind      string
	State     string
	Code      int
	Reason    string
	RetryInMs int
	ID        string
	Attempt   int
	After     string
	Follow    []string
	Mute      []string
	Message   string
	Transport string
}

// until waits for an event for which the JavaScript condition on e holds.
func (p *page) until(condition string) event {
	return browsertest.Eval[event](p.Tab, "until((e) => "+condition+")")
}

// count tells for how many recorded events the condition holds.
func (p *page) count(condition string) int {
	return browsertest.Eval[int](p.Tab, "events.filter((e) => "+condition+").length")
}
