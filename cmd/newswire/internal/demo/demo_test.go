package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"go.uber.org/goleak"

	"newswire/cdc/cluster"
	"newswire/gateway/browser/browsertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// output is what a demo has printed so far.
type output struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// running is a demo at work.
type running struct {
	t    *testing.T
	dir  string
	out  output
	page string // its address
	stop func() // ends it and checks that it ended well
}

// ground is a directory that PostgreSQL's user can enter.
func ground(t *testing.T) string {
	t.Helper()
	if _, err := cluster.FindBinaries(""); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("SKIPPED, NOTHING TESTED: %v", err)
	}
	dir, err := os.MkdirTemp("", "nw-demo-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "d")
}

// start runs a demo until it has announced its page.
func start(t *testing.T, o Options) *running {
	t.Helper()
	r := &running{t: t, dir: o.Dir}
	if err := os.Chmod(filepath.Dir(o.Dir), 0o711); err != nil {
		t.Fatal(err)
	}
	o.Stdout = &r.out
	for _, address := range []*string{&o.Listen, &o.Admin, &o.KafkaListen, &o.Devices, &o.Compensate} {
		if *address == "" {
			*address = "127.0.0.1:0"
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, o, slog.New(slog.NewTextHandler(t.Output(), nil))) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the demo ended with %v", err)
		}
	})
	t.Cleanup(r.stop)
	r.await("Ctrl-C ends it.")
	_, rest, _ := strings.Cut(r.out.String(), "The page:")
	r.page = strings.Fields(rest)[0]
	return r
}

// listen is the address of the page's server.
func (r *running) listen() string {
	return strings.TrimSuffix(strings.TrimPrefix(r.page, "http://"), "/")
}

// await waits until the demo has printed this.
func (r *running) await(text string) {
	r.t.Helper()
	r.within("print "+text, func() bool { return strings.Contains(r.out.String(), text) })
}

// within waits until the condition holds.
func (r *running) within(what string, holds func() bool) {
	r.t.Helper()
	deadline := time.After(browsertest.Patience)
	for !holds() {
		select {
		case <-deadline:
			r.t.Fatalf("the demo did not %s; it printed:\n%s", what, r.out.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// printed is the command that the demo has printed under a heading.
func (r *running) printed(heading string) string {
	r.t.Helper()
	_, rest, found := strings.Cut(r.out.String(), heading)
	lines := strings.Split(rest, "\n")
	if !found || len(lines) < 2 {
		r.t.Fatalf("nothing is printed under %q", heading)
	}
	return strings.TrimSpace(lines[1])
}

// until waits in the page until a JavaScript condition holds.
func until(t *testing.T, tab *browsertest.Tab, condition string) {
	t.Helper()
	held := browsertest.Eval[bool](tab, fmt.Sprintf(`new Promise((resolve) => {
		const deadline = Date.now() + %d;
		const look = () => {
			if (%s) return resolve(true);
			if (Date.now() > deadline) return resolve(false);
			setTimeout(look, 10);
		};
		look();
	})`, (browsertest.Patience/2).Milliseconds(), condition))
	if !held {
		t.Fatalf("in vain awaited: %s\nThe page says:\n%s", condition, browsertest.Eval[string](tab, "document.body.innerText"))
	}
}

// save types an article into the form and clicks the button.
func save(tab *browsertest.Tab, title, tags string) {
	for id, text := range map[string]string{"title": title, "tags": tags} {
		tab.Do(`document.getElementById("` + id + `").select()`) // typing replaces it
		browsertest.Run(tab, chromedp.SendKeys(chromedp.CSS("#"+id), text))
	}
	browsertest.Run(tab, chromedp.Click(chromedp.CSS("#editor [type=submit]")))
}

// shown is a condition: the reader's list has the title, so often.
func shown(reader, title string, times int) string {
	quoted, _ := json.Marshal(title)
	return fmt.Sprintf(`[...document.querySelectorAll("[data-reader=%s] .headline")].filter((e) => e.textContent === %s).length === %d`, reader, quoted, times)
}

// rings is a condition: the reader's telephone shows the title, so often.
func rings(reader, title string, times int) string {
	quoted, _ := json.Marshal(title)
	return fmt.Sprintf(`[...document.querySelectorAll("[data-phone=%s] .headline")].filter((e) => e.textContent === %s).length === %d`, reader, quoted, times)
}

const allOnline = `document.querySelectorAll(".card[data-state=online]").length === 3 && document.querySelectorAll(".chips li").length === 4`

func TestAnArticleGoesFromTheFormToItsReadersAndFromOneToKafka(t *testing.T) {
	r := start(t, Options{Dir: ground(t), AckTimeout: 500 * time.Millisecond})
	tab := browsertest.Open(t)
	tab.Resize(1200, 900)
	tab.Load(r.page)
	until(t, tab, allOnline)

	save(tab, "Tram line 9 opens", "tech, city")
	until(t, tab, shown("ann", "Tram line 9 opens", 1))
	latency := browsertest.Eval[int](tab, `parseInt(document.querySelector("[data-reader=ann] .latency").textContent)`)
	if latency >= 1000 {
		t.Errorf("from commit to screen it took %d ms, want under a second", latency)
	}

	// ben shall not acknowledge; what he and cem get comes later than what
	// they must not get, so its absence is known by then.
	tab.Do(`document.querySelector("[data-reader=ben] .silent").click()`)
	save(tab, "Stadium vote", "sport")
	until(t, tab, shown("ben", "Stadium vote", 1)+"&&"+shown("cem", "Stadium vote", 1))
	for _, absent := range []string{shown("ben", "Tram line 9 opens", 0), shown("cem", "Tram line 9 opens", 0), shown("ann", "Stadium vote", 0)} {
		if !browsertest.Eval[bool](tab, absent) {
			t.Errorf("wrong reader: %s does not hold", absent)
		}
	}
	until(t, tab, `document.querySelector("[data-reader=ben] .attempt").textContent === "attempt 3"`)
	until(t, tab, `document.querySelectorAll("#offline tbody tr").length === 1`)
	row := browsertest.Eval[string](tab, `document.querySelector("#offline tbody tr").innerText`)
	for _, want := range []string{"ben", "Stadium vote", "never acknowledged", "3"} {
		if !strings.Contains(row, want) {
			t.Errorf("the row %q lacks %q", row, want)
		}
	}
	// Whoever was handed over is told on the telephone, and nobody else.
	until(t, tab, rings("ben", "Stadium vote", 1))
	kcat(t, r)
	tab.Do(`document.querySelector("[data-reader=cem] .toggle").click()`)
	until(t, tab, `document.querySelector("[data-reader=cem]").dataset.state === "stopped"`)
	save(tab, "Away match", "sport")
	until(t, tab, rings("cem", "Away match", 1))
	if !browsertest.Eval[bool](tab, rings("ann", "Stadium vote", 0)+"&&"+rings("cem", "Stadium vote", 0)) {
		t.Error("a telephone rang for who had acknowledged")
	}
	keepScreenshot(t, tab)
	tab.Do(`document.querySelector("[data-reader=cem] .toggle").click()`)
	until(t, tab, allOnline)

	psql(t, r)
	until(t, tab, shown("ann", "Saved with psql", 1))

	// The next demo in the same directory goes on with its readers and its
	// news, and the page that stayed open finds it.
	r.stop()
	if !strings.Contains(r.out.String(), "Stopped. The data stays in "+r.dir) {
		t.Errorf("the end is not told:\n%s", r.out.String())
	}
	until(t, tab, `document.querySelectorAll(".card[data-state=online]").length === 0`)
	again := start(t, Options{Dir: r.dir, Listen: r.listen(), AckTimeout: 500 * time.Millisecond})
	until(t, tab, allOnline)
	until(t, tab, `[...document.querySelectorAll("[data-reader=ben] li")].some((e) => e.querySelector(".headline")?.textContent === "Stadium vote" && !e.querySelector(".replay").hidden)`)
	until(t, tab, shown("ben", "Stadium vote", 1))
	until(t, tab, shown("ann", "Tram line 9 opens", 1)) // acknowledged: not shown a second time
	save(tab, "After the restart", "tech")
	until(t, tab, shown("ann", "After the restart", 1))
	again.stop()
}

func TestThePageRegistersAWorkerThatShowsAPush(t *testing.T) {
	r := start(t, Options{Dir: ground(t)})
	origin := strings.TrimSuffix(r.page, "/")
	tab := browsertest.Open(t)
	tab.Permit(origin)
	tab.Load(r.page)
	until(t, tab, `document.querySelector("[data-phone=ann] .subscribe")`)
	// No push service is reachable from here; what the page can do without one, it does.
	tab.Do(`document.querySelector("[data-phone=ann] .subscribe").click()`)
	until(t, tab, `document.querySelector("[data-phone=ann] .said").textContent !== ""`)
	tab.Push(origin, `{"title":"Tram line 9 opens","body":"From Monday on","url":"https://news.example.com/9","tag":"a9","id":"m1","count":1}`)
	tab.Do(`window.shown = () => navigator.serviceWorker.ready.then((r) => r.getNotifications()).then((all) => all.map((n) => n.title + " " + n.data.url).join())`)
	r.within("show the notification", func() bool {
		return browsertest.Eval[string](tab, "shown()") == "Tram line 9 opens https://news.example.com/9"
	})
}

// psql runs what the demo tells its user to paste.
func psql(t *testing.T, r *running) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "sh", "-c", r.printed("Save an article from a shell:"))
	if text, err := command.CombinedOutput(); err != nil || !strings.Contains(string(text), "INSERT 0 1") {
		t.Errorf("%s: %v: %s", command, err, text)
	}
}

// kcat reads the offline topic by the printed command, up to its end.
func kcat(t *testing.T, r *running) {
	t.Helper()
	if _, err := exec.LookPath("kcat"); err != nil {
		t.Log("kcat is not installed: its command is not tried")
		return
	}
	text, err := exec.CommandContext(t.Context(), "sh", "-c", r.printed("as Kafka clients see it:")+" -e -q").Output()
	if err != nil {
		t.Fatalf("kcat: %v", err)
	}
	var record struct {
		Reader, Reason string
		Attempts       int
	}
	if err := json.Unmarshal(text, &record); err != nil || record.Reader != "ben" || record.Reason != "ack_timeout" || record.Attempts != 3 {
		t.Errorf("kcat gives %s (%v), want ben's one record", text, err)
	}
}

// TestAnOldBrowserPolls takes away from a browser what old ones do not have.
func TestAnOldBrowserPolls(t *testing.T) {
	r := start(t, Options{Dir: ground(t)})
	editor := browsertest.Open(t)
	editor.Load(r.page)
	until(t, editor, allOnline)
	old := editor.Beside()
	old.Resize(800, 500)
	old.Before("delete window.WebSocket; delete window.fetch; delete window.EventSource; delete window.Worker; delete navigator.sendBeacon")
	old.Load(strings.TrimSuffix(r.page, "/") + "/demo/old.html")
	if browsertest.Eval[bool](old, `"WebSocket" in window || "fetch" in window`) {
		t.Error("it is no old browser")
	}
	rows := func(want ...string) string {
		quoted, _ := json.Marshal(strings.Join(want, "|"))
		return `[...document.querySelectorAll("#news li")].map((li) => li.className + " " + li.innerText.trim()).join("|") === ` + string(quoted)
	}
	old.Do(`document.getElementById("begin").click()`)
	// It polls once its tags are in effect.
	until(t, old, `performance.getEntriesByType("resource").some((e) => e.name.includes("/v1/poll"))`)
	save(editor, "Tram line 9 opens", "tech, city")
	until(t, old, rows("publish Tram line 9 openstech, city"))
	save(editor, "Stadium vote", "sport") // not its news
	save(editor, "A <b>second</b> line", "city")
	until(t, old, rows("publish A <b>second</b> linecity", "publish Tram line 9 openstech, city"))
	until(t, old, `performance.getEntriesByType("resource").filter((e) => e.name.includes("/v1/ack")).length === 2`)
	old.Load(strings.TrimSuffix(r.page, "/") + "/demo/old.html")
	old.Do(`document.getElementById("begin").click()`)
	save(editor, "After a reload", "tech")
	until(t, old, rows("publish After a reloadtech")) // what was shown before was read
	keepScreenshot(t, old)
}

// keepScreenshot writes what the page looks like to where it is asked to.
func keepScreenshot(t *testing.T, tab *browsertest.Tab) {
	t.Helper()
	path := os.Getenv("NEWSWIRE_TEST_SCREENSHOT")
	if path == "" {
		return
	}
	if err := os.WriteFile(path, browsertest.Run(tab, chromedp.FullScreenshot(100)), 0o644); err != nil {
		t.Error(err)
	}
}

func TestATakenPortIsToldInOneSentence(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	address := taken.Addr().String()
	dir := filepath.Join(t.TempDir(), "never made")
	for flag, o := range map[string]Options{
		"--listen":       {Listen: address, Admin: "127.0.0.1:0", KafkaListen: "127.0.0.1:0"},
		"--admin":        {Listen: "127.0.0.1:0", Admin: address, KafkaListen: "127.0.0.1:0"},
		"--kafka-listen": {Listen: "127.0.0.1:0", Admin: "127.0.0.1:0", KafkaListen: address},
	} {
		o.Dir, o.Devices, o.Compensate = dir, "127.0.0.1:0", "127.0.0.1:0"
		err := Run(t.Context(), o, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), address) || !strings.Contains(err.Error(), flag) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", flag, err)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a refused demo has made its directory: %v", err)
	}
}

func TestOriginsAreThePagesOwn(t *testing.T) {
	t.Parallel()
	for listen, want := range map[string]struct {
		origins, page string
		open          bool
	}{
		"127.0.0.1:8080":   {"http://127.0.0.1:8080 http://localhost:8080 http://[::1]:8080", "http://127.0.0.1:8080/", false},
		"localhost:80":     {"http://127.0.0.1 http://localhost http://[::1]", "http://localhost:80/", false},
		":8080":            {"http://127.0.0.1:8080 http://localhost:8080 http://[::1]:8080", "http://127.0.0.1:8080/", true},
		"0.0.0.0:8080":     {"http://127.0.0.1:8080 http://localhost:8080 http://[::1]:8080", "http://127.0.0.1:8080/", true},
		"192.0.2.7:8080":   {"http://192.0.2.7:8080 http://127.0.0.1:8080 http://localhost:8080 http://[::1]:8080", "http://192.0.2.7:8080/", true},
		"[2001:db8::]:808": {"http://[2001:db8::]:808 http://127.0.0.1:808 http://localhost:808 http://[::1]:808", "http://[2001:db8::]:808/", true},
	} {
		o := Options{Listen: listen}
		if got := strings.Join(o.origins(), " "); got != want.origins || o.page() != want.page || o.open() != want.open {
			t.Errorf("%s: origins %s, page %s, open %t", listen, got, o.page(), o.open())
		}
	}
}

func TestAForeignOriginAndHostAreRefused(t *testing.T) {
	r := start(t, Options{Dir: ground(t)})
	ask := func(change func(*http.Request)) int {
		request, err := http.NewRequestWithContext(t.Context(), "GET", r.page+"v1/ws", nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{
			"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
			"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Protocol": "newswire.v1",
		} {
			request.Header.Set(name, value)
		}
		change(request)
		transport := &http.Transport{}
		defer transport.CloseIdleConnections()
		answer, err := transport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusSwitchingProtocols {
			_, _ = io.Copy(io.Discard, answer.Body)
		}
		return answer.StatusCode
	}
	origin := strings.TrimSuffix(r.page, "/")
	if status := ask(func(r *http.Request) { r.Header.Set("Origin", origin) }); status != 101 {
		t.Errorf("the page's own origin gets %d", status)
	}
	if status := ask(func(r *http.Request) { r.Header.Set("Origin", "http://evil.example") }); status != 403 {
		t.Errorf("a foreign origin gets %d", status)
	}
	if status := ask(func(r *http.Request) { r.URL.Path = "/"; r.Host = "evil.example" }); status != 421 {
		t.Errorf("a foreign host gets %d", status)
	}
}
