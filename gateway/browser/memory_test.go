package browser_test

import (
	"testing"

	"newswire/gateway/browser/browsertest"
)

func TestWhatWasHandledIsNotShownAgainAfterAReload(t *testing.T) {
	t.Parallel()
	for resume, shown := range map[string]int{
		"complete": 0, // the server knows the cursor: what it repeats was handled
		"gap":      1, // it does not: ids may mean something else now
	} {
		p := openPage(t)
		p.Do(`window.token = "` + tokenOf("ann") + `"; open_({})`)
		s := p.server.accept()
		s.welcome()
		s.send(news(1, 1), news(2, 1))
		s.acked(id(1), id(2))
		p.Load(p.url)
		p.Do(`window.token = "` + tokenOf("ann") + `"; open_({})`)
		s = p.server.accept()
		if hello := s.read("hello"); hello.After != id(2) {
			t.Errorf("it comes back after %q", hello.After)
		}
		s.send(frame{Type: "welcome", Resume: resume}, news(1, 2))
		s.acked(id(1))
		if n := p.count(`e.kind === "message"`); n != shown {
			t.Errorf("resume %s: shown %d times after the reload, want %d", resume, n, shown)
		}
		s.send(news(3, 1))
		s.acked(id(3))
	}
}

func TestTwoTabsShareTheCursorAndNeitherTurnsItBack(t *testing.T) {
	t.Parallel()
	ahead := openPage(t)
	ahead.Do(`window.token = "` + tokenOf("ann") + `"; open_({})`)
	first := ahead.server.accept()
	first.welcome()
	behind := ahead.sibling()
	behind.Do(`window.token = "` + tokenOf("ann") + `"; open_({})`)
	second := ahead.server.accept()
	second.welcome()
	first.send(news(1, 1), news(2, 1), news(3, 1))
	first.acked(id(1), id(2), id(3))
	second.send(news(1, 1))
	second.acked(id(1))
	if kept := browsertest.Eval[string](behind.Tab, `Object.values(localStorage).join()`); kept != id(3) {
		t.Errorf("both keep %q, want the higher cursor", kept)
	}
	second.end(4009, "slow_reader")
	if hello := ahead.server.accept().welcome(); hello.After != id(1) {
		t.Errorf("the tab behind comes back after %q, want what it has shown itself", hello.After)
	}
	ahead.Load(ahead.url)
	ahead.Do(`window.token = "` + tokenOf("ann") + `"; open_({})`)
	if hello := ahead.server.accept().welcome(); hello.After != id(3) {
		t.Errorf("a page that is loaded comes back after %q, want %s", hello.After, id(3))
	}
	if n := behind.count(`e.kind === "message"`); n != 1 {
		t.Errorf("the tab behind was shown %d messages", n)
	}
}

func TestWithoutStorageTheCursorLivesAsLongAsThePage(t *testing.T) {
	t.Parallel()
	for name, forbid := range map[string]string{
		"forbidden": `Object.defineProperty(window, "localStorage", {get() { throw new DOMException("no", "SecurityError"); }}); open_({})`,
		"full":      `Storage.prototype.setItem = () => { throw new DOMException("full", "QuotaExceededError"); }; open_({})`,
		"unwanted":  `open_({storage: null})`,
	} {
		p := openPage(t)
		p.Do(forbid)
		s := p.server.accept()
		s.welcome()
		s.send(news(1, 1))
		s.acked(id(1))
		s.end(4009, "slow_reader")
		if hello := p.server.accept().welcome(); hello.After != id(1) {
			t.Errorf("%s: it comes back after %q", name, hello.After)
		}
		if n := p.count(`e.kind === "error"`); n != 0 {
			t.Errorf("%s: %d errors", name, n)
		}
		p.Load(p.url)
		p.Do(`open_({})`)
		if hello := p.server.accept().welcome(); hello.After != "" {
			t.Errorf("%s: it was kept: %q", name, hello.After)
		}
	}
}

func TestWhoIsForgottenDoesNotComeBack(t *testing.T) {
	t.Parallel()
	p := openPage(t)
	p.Do(`window.token = "` + tokenOf("ann") + `"; open_({})`)
	s := p.server.accept()
	s.welcome()
	s.send(news(1, 1))
	s.acked(id(1))
	s.send(frame{Type: "bye", Code: 4510, Reason: "forgotten"})
	s.end(4510, "forgotten")
	if stopped := p.until(`e.state === "stopped"`); stopped.Reason != "forgotten" {
		t.Errorf("stopped with %+v", stopped)
	}
	if n := browsertest.Eval[int](p.Tab, "localStorage.length"); n != 0 {
		t.Error("the cursor of a forgotten reader is kept")
	}
	p.server.none()
}

func TestASilentServerIsAskedAndLeft(t *testing.T) {
	t.Parallel()
	p := openPage(t)
	p.Do(`window.timeScale = 0.001; const now = Date.now; window.skip = 0; Date.now = () => now() + skip; open_({})`)
	s := p.server.accept()
	s.welcome()
	p.until(`e.state === "online"`)
	p.Do(`window.skip = 50_000`)
	s.read("ping") // and no answer
	if off := p.until(`e.state === "offline"`); off.Reason != "the server has fallen silent" {
		t.Errorf("offline with %+v", off)
	}
	p.server.accept().welcome()
}
