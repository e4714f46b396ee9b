// Package browsertest gives tests a real Chromium: one for all tests that run
// at the same time, a tab with storage of its own for each.
package browsertest

import (
	"context"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// Patience bounds every step of a test; what works takes milliseconds.
const Patience = 2 * time.Minute

// shared is the browser of this test process. It lives while somebody has a
// tab, so that nothing of it is left when the last test has ended.
var shared struct {
	mu   sync.Mutex // guards the rest
	tabs int
	ctx  context.Context
	stop func()
}

// Tab is one empty page of the browser.
type Tab struct {
	t   testing.TB
	ctx context.Context
}

// Open gives a tab that is closed when the test ends. Where there is no
// Chromium the test is skipped loudly, and fails where CI promises one.
func Open(t testing.TB) *Tab {
	t.Helper()
	require(t)
	browser := acquire(t)
	// Its own browser context: no other test's cookies and storage.
	ctx, closeTab := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	t.Cleanup(closeTab)
	if err := chromedp.Do(ctx); err != nil { // the tab lives as long as the context of its first call
		t.Fatalf("open a tab: %v", err)
	}
	return &Tab{t: t, ctx: ctx}
}

// Beside gives another tab with the cookies and the storage of this one.
func (tab *Tab) Beside() *Tab {
	tab.t.Helper()
	ctx, closeTab := chromedp.NewContext(tab.ctx)
	tab.t.Cleanup(closeTab)
	if err := chromedp.Do(ctx); err != nil {
		tab.t.Fatalf("open a tab: %v", err)
	}
	return &Tab{t: tab.t, ctx: ctx}
}

func acquire(t testing.TB) context.Context {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.tabs == 0 {
		options := append(chromedp.DefaultExecAllocatorOptions[:],
			chromedp.NoSandbox, chromedp.DisableGPU, chromedp.Flag("disable-quic", true))
		alloc, stopAlloc := chromedp.NewExecAllocator(context.Background(), options...)
		ctx, stop := chromedp.NewContext(alloc)
		shared.ctx, shared.stop = ctx, func() { stop(); stopAlloc() }
		if err := chromedp.Do(ctx); err != nil {
			shared.stop()
			t.Fatalf("start Chromium: %v", err)
		}
	}
	shared.tabs++
	t.Cleanup(release)
	return shared.ctx
}

func release() {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.tabs--; shared.tabs == 0 {
		shared.stop()
	}
}

func require(t testing.TB) {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "headless-shell"} {
		if _, err := exec.LookPath(name); err == nil {
			return
		}
	}
	const remedy = "no Chromium on PATH: install it (Debian: apt-get install chromium)"
	if os.Getenv("CI") == "true" {
		t.Fatal(remedy)
	}
	t.Skip("SKIPPED, NOTHING TESTED: " + remedy)
}

// Load goes to the address, again if it is there, and returns once its modules
// have run.
func (tab *Tab) Load(url string) {
	tab.t.Helper()
	Run(tab, chromedp.Navigate(url))
}

// Do runs JavaScript statements in the page.
func (tab *Tab) Do(js string) {
	tab.t.Helper()
	Run(tab, chromedp.Evaluate[chromedp.Void]("{"+js+"}"))
}

// Eval gives the value of a JavaScript expression, or of the promise that it
// is.
func Eval[T any](tab *Tab, js string) T {
	tab.t.Helper()
	return Run(tab, chromedp.Evaluate[T](js, chromedp.EvalAwaitPromise))
}

// Until looks every few milliseconds until look is content; false when that
// takes longer than Patience.
func Until(tab *Tab, look func() bool) bool {
	tab.t.Helper()
	deadline := time.Now().Add(Patience)
	for tick := time.NewTicker(20 * time.Millisecond); !look(); <-tick.C {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// Run does one of chromedp's actions; its failure ends the test.
func Run[T any](tab *Tab, action chromedp.Action[T]) T {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, Patience)
	defer cancel()
	v, err := chromedp.Run(ctx, action)
	if err != nil {
		tab.t.Fatalf("page: %v", err)
	}
	return v
}

// Resize makes the window so large, in CSS pixels.
func (tab *Tab) Resize(width, height int64) {
	tab.t.Helper()
	Run(tab, chromedp.EmulateViewport(width, height))
}
