package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"newswire/cmd/newswire/internal/harness"
	"newswire/gateway/browser/browsertest"
)

// Ten lines, taken from the README, in an empty page on another origin.
func TestTenLinesOfTheREADMEShowTheNews(t *testing.T) {
	t.Parallel()
	s := openSite(t, harness.Options{})
	code := strings.TrimSpace(readme(t, "**4. Read.**", "<script type=\"module\">", "</script>"))
	if n := strings.Count(code, "\n") + 1; n > 10 {
		t.Errorf("the README asks for %d lines", n)
	}
	tab := browsertest.Open(t)
	tab.Load(s.url + "/empty")
	harness.Eventually(t, "the page to follow", func() (bool, any) {
		_, answer := s.engine.HTTP("somebody", "GET", "/v1/subscriptions", nil)
		return strings.Contains(answer, `"tech"`), answer
	})
	shows := func(want string) {
		t.Helper()
		var got string
		if !browsertest.Until(tab, func() bool {
			got = browsertest.Eval[string](tab, `[...document.querySelectorAll("p")].map((p) => p.textContent).join("|")`)
			return got == want
		}) {
			t.Fatalf("the page shows %q, want %q", got, want)
		}
	}
	article(s.db, "one", "tech")
	article(s.db, "not for everybody", "gossip")
	article(s.db, "two", "sport")
	shows("one|two")
	s.db.Exec("UPDATE articles SET title = 'one, corrected' WHERE title = 'one'")
	shows("one, corrected|two")
	s.db.Exec("DELETE FROM articles WHERE title = 'two'")
	shows("one, corrected|")
	s.engine.AwaitSettled() // all was acknowledged
}

// TestPagesMissNothing lets down pages in real browsers in every way that pages
// are let down. What is committed meanwhile is shown afterwards, once.
func TestPagesMissNothing(t *testing.T) {
	t.Parallel()
	s := openSite(t, harness.Options{})
	t.Run("offline", func(t *testing.T) { withoutNetwork(t, s) }) // alone: it cuts every connection
	for name, run := range map[string]func(*testing.T, *newsSite){
		"asleep": asleep, "two tabs": twoTabs, "left and come back": leftAndBack,
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); run(t, s) })
	}
}

func asleep(t *testing.T, s *newsSite) {
	p := s.open(t, "sleeper")
	p.article("before")
	p.shows("before")
	p.Freeze()
	p.article("in its sleep")
	p.article("still asleep")
	harness.Eventually(t, "the articles to be sent", func() (bool, any) {
		status := s.engine.Status()
		return status.Ledger.Pairs >= 2, status
	})
	p.Thaw()
	p.shows("before", "in its sleep", "still asleep")
	p.article("awake")
	p.shows("before", "in its sleep", "still asleep", "awake")
}

func withoutNetwork(t *testing.T, s *newsSite) {
	p := s.open(t, "traveller")
	p.Offline(true)
	s.connections.cut()
	p.until("it is offline", `states.some((s) => s.state === "offline" && s.reason.startsWith("getToken"))`)
	p.article("in the tunnel")
	before := p.count(`s.state === "online"`)
	p.Offline(false)
	p.until("it is online again", `states.at(-1).state === "online"`)
	if n := p.count(`s.state === "online"`); n != before+1 {
		t.Errorf("it came online %d times", n-before)
	}
	p.shows("in the tunnel")
}

func twoTabs(t *testing.T, s *newsSite) {
	one := s.open(t, "double")
	two := &sitePageOf{one.Beside(), s, "double"}
	two.Load(s.url + "/?reader=double")
	two.until("it is online", `states.at(-1)?.state === "online"`)
	for _, title := range []string{"first", "second"} {
		one.article(title)
	}
	one.shows("first", "second")
	two.shows("first", "second")
	one.Do(`news.follow(["later"])`)
	two.until("it hears of the other tab's change", `news.subscriptions.follow.includes("later")`)
	one.Load(s.url + "/?reader=double") // it begins anew with what is not read
	one.until("it is online", `states.at(-1)?.state === "online"`)
	one.article("third")
	one.shows("third")
	two.shows("first", "second", "third")
}

// The browser keeps the page whole while the reader is elsewhere.
func leftAndBack(t *testing.T, s *newsSite) {
	p := s.open(t, "wanderer")
	p.article("before")
	p.shows("before")
	p.Load(s.url + "/elsewhere")
	p.article("meanwhile")
	p.Do(`setTimeout(() => history.back())`)
	p.until("the page is back", `document.title === "Site"`)
	if !browsertest.Eval[bool](p.Tab, "restored") {
		t.Skip("SKIPPED: this browser has no back-forward cache")
	}
	p.shows("before", "meanwhile")
}

func TestPagesComeBackAfterARestart(t *testing.T) {
	t.Parallel()
	s := openSite(t, harness.Options{Drain: time.Second})
	p := s.open(t, "patient")
	p.article("before")
	p.shows("before")
	s.engine.Stop()
	p.until("it was sent away", `states.some((s) => s.state === "offline" && s.code === 1012 && s.reason === "draining")`)
	p.article("while it was down")
	s.engine.Restart()
	p.shows("before", "while it was down")
	s.engine.Kill()
	p.article("while it was dead")
	s.engine.Restart()
	p.shows("before", "while it was down", "while it was dead")
	p.until("it has a WebSocket", `news.transport === "websocket"`) // if it has polled meanwhile
	screenshot(t, p, "restarted")
}

// A token lives for a few seconds; the session outlives it.
func TestPagesReplaceTheirTokens(t *testing.T) {
	t.Parallel()
	s := openSite(t, harness.Options{})
	s.ttl = 14 * time.Second // replaced after the half
	p := s.open(t, "member")
	end := time.Now().Add(s.ttl + time.Second)
	harness.Eventually(t, "the first token to expire", func() (bool, any) { return time.Now().After(end), end })
	p.article("after the first token's end")
	p.shows("after the first token's end")
	if n := p.count(`s.state !== "connecting"`); n != 1 {
		p.fail("it stayed online")
	}
	// Nobody replaces it in a sleeping tab: the session ends, the page comes back.
	p.Freeze()
	end = time.Now().Add(s.ttl + time.Second)
	harness.Eventually(t, "the token to expire", func() (bool, any) { return time.Now().After(end), end })
	p.article("after its sleep")
	p.Thaw()
	p.shows("after the first token's end", "after its sleep")
}

func TestPagesPollWhereNoWebSocketGetsThrough(t *testing.T) {
	t.Parallel()
	s := openSite(t, harness.Options{})
	s.noSockets.Store(true)
	p := s.open(t, "blocked")
	p.until("it polls", `news.transport === "polling"`)
	p.article("one")
	p.article("two")
	p.shows("one", "two")
	s.engine.AwaitSettled()
	p.Do(`news.mute(["gossip"]).then(({ mute }) => (window.muted = mute.join()))`)
	p.until("the change is in effect", `window.muted === "gossip"`)
	screenshot(t, p, "polling")
	s.engine.Stop()
	p.article("while it was down")
	s.engine.Restart()
	p.shows("one", "two", "while it was down")
	s.noSockets.Store(false)
	p.Do(`dispatchEvent(new Event("online"))`) // it would look by itself within a minute, then two, then four
	p.until("it has a WebSocket", `news.transport === "websocket"`)
	p.article("three")
	p.shows("one", "two", "while it was down", "three")
	s.engine.AwaitSettled()
}

// Who has no token is kept by nobody but the page: by its cursor it gets what it
// has missed.
func TestGuestsGetWhatTheyHaveMissed(t *testing.T) {
	t.Parallel()
	s := openSite(t, harness.Options{Env: []string{"NEWSWIRE_GATEWAY_AUTH_ANONYMOUS=true"}})
	p := s.open(t, "guest")
	program := s.engine.Background("tail", "--url", "http://"+s.engine.Gateway)
	harness.Eventually(t, "both to be there", func() (bool, any) {
		status := s.engine.Status()
		return status.Sessions == 2, status
	})
	p.article("before")
	p.shows("before")
	s.engine.Kill()
	p.article("while it was dead")
	s.engine.Restart()
	p.shows("before", "while it was dead")
	p.Load(s.url + "/elsewhere")
	p.article("while the page was closed")
	p.Load(s.url + "/?reader=guest")
	p.shows("while the page was closed")
	harness.Eventually(t, "tail to print all", func() (bool, any) { return len(lines(t, program.Stdout())) == 3, program.Stdout() })
	if stopped := p.count(`s.state === "stopped"`); stopped > 0 {
		p.fail("it goes on")
	}
}

// screenshot keeps what a page shows where NEWSWIRE_TEST_SCREENSHOTS says.
func screenshot(t *testing.T, p *sitePageOf, name string) {
	t.Helper()
	dir := os.Getenv("NEWSWIRE_TEST_SCREENSHOTS")
	if dir == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), p.Screenshot(), 0o644); err != nil {
		t.Error(err)
	}
}
