package browser_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"newswire/gateway/browser"
	"newswire/gateway/browser/browsertest"
)

func tokenOf(reader string) string {
	return token(base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"sub":%q}`, reader)))
}

func TestTheScriptIsSmallAndSelfContained(t *testing.T) {
	t.Parallel()
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(browser.Script); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if packed.Len() > 8192 {
		t.Errorf("newswire.js has %d bytes gzipped, want at most 8192", packed.Len())
	}
	code := regexp.MustCompile(`(?m)^\s*(//|\*|/\*).*$`).ReplaceAll(browser.Script, nil)
	if found := regexp.MustCompile(`\bimport\b|\beval\s*\(|\bFunction\s*\(|importScripts|https?://`).Find(code); found != nil {
		t.Errorf("newswire.js contains %q: it must load nothing and evaluate nothing", found)
	}
}

func TestAnAckFollowsTheSettledHandler(t *testing.T) {
	t.Parallel()
	p := openPage(t)
	p.Do(`window.token = "t1"; let release; const held = new Promise((r) => (release = r)); window.release = release;
		open_({follow: ["tech"], mute: ["gossip"], onMessage: () => held})`)
	s := p.server.accept()
	hello := s.welcome()
	if hello.Token != "t1" || hello.After != "" || !slices.Equal(hello.Follow, []string{"tech"}) || !slices.Equal(hello.Mute, []string{"gossip"}) {
		t.Errorf("hello = %+v", hello)
	}
	s.send(news(1, 1))
	p.until(`e.kind === "sets"`)
	p.Do(`window.followed = outcome(client.follow(["ai"]))`)
	s.read("follow") // and no ack before it: the handler still runs
	p.Do(`release()`)
	s.acked(id(1))
	if n := p.count(`e.kind === "violation"`); n != 0 {
		t.Errorf("%d violations of the page's policy", n)
	}
}

func TestAFailedHandlerIsNotAckedAndGetsTheRetry(t *testing.T) {
	t.Parallel()
	p := openPage(t)
	p.Do(`let fail = true; open_({onMessage: ({attempt}) => { if (attempt < 2) throw new Error("page fault"); }})`)
	s := p.server.accept()
	s.welcome()
	s.send(news(1, 1), news(2, 2))
	s.acked(id(2))
	p.until(`e.kind === "error" && e.message.includes("page fault")`)
	s.send(news(1, 2))
	s.acked(id(1))
}

func TestARepeatIsAckedButNotShown(t *testing.T) {
	t.Parallel()
	p := openPage(t)
	p.Do(`open_({})`)
	s := p.server.accept()
	s.welcome()
	s.send(news(1, 1))
	s.acked(id(1))
	s.send(news(1, 2))
	s.acked(id(1))
	if n := p.count(`e.kind === "message"`); n != 1 {
		t.Errorf("shown %d times, want once", n)
	}
}

func TestManyAcksShareFrames(t *testing.T) {
	t.Parallel()
	p := openPage(t)
	p.Do(`open_({})`)
	s := p.server.accept()
	s.welcome()
	var want []string
	for n := range 1000 { // more than the client remembers
		s.send(news(n, 1))
		want = append(want, id(n))
	}
	s.acked(want...)
}

func TestManualAcks(t *testing.T) {
	t.Parallel()
	p := openPage(t)
	p.Do(`open_({ack: "manual", onMessage: (message, control) => {
		record({kind: "message", id: message.id, attempt: message.attempt});
		if (message.attempt === 3) control.ack();
	}})`)
	s := p.server.accept()
	s.welcome()
	s.send(news(1, 1), news(1, 2), news(1, 3))
	s.acked(id(1))
	s.send(news(1, 4))
	s.acked(id(1))
	if n := p.count(`e.kind === "message"`); n != 3 {
		t.Errorf("shown %d times, want attempts 1, 2 and 3", n)
	}
	s.send(news(2, 1))
	p.until(`e.id === "` + id(2) + `"`)
	p.Do(`client.ack("` + id(2) + `")`)
	s.acked(id(2))
}

func TestItComesBackWithItsCursorAndKeepsTheServersSets(t *testing.T) {
	t.Parallel()
	p := openPage(t)
	p.Do(`window.token = "` + tokenOf("ann") + `"; open_({follow: ["tech"], onMessage: ({attempt}) => { if (attempt > 1) throw 0; }})`)
	s := p.server.accept()
	s.welcome()
	s.send(news(1, 1), news(2, 1))
	s.acked(id(1), id(2))
	s.send(news(3, 2), news(4, 1)) // 3 is not handled: the cursor may not pass it
	s.acked(id(4))
	s.end(4009, "slow_reader")
	if off := p.until(`e.state === "offline"`); off.Code != 4009 || off.Reason != "slow_reader" {
		t.Errorf("offline with %+v", off)
	}
	s = p.server.accept()
	hello := s.welcome()
	if hello.After != id(2) || hello.Follow != nil {
		t.Errorf("second hello = %+v, want after %s and no follow", hello, id(2))
	}
	s.acked(id(1), id(2), id(4)) // the last connection may have lost them
	s.send(news(4, 1))
	s.acked(id(4))
}

func TestACursorOutlivesTheReloadAndBelongsToOneReader(t *testing.T) {
	t.Parallel()
	p := openPage(t)
	connectAs := func(reader string) *session {
		p.Do(`window.token = "` + tokenOf(reader) + `"; open_({})`)
		return p.server.accept()
	}
	s := connectAs("ann")
	s.welcome()
	s.send(news(1, 1))
	s.acked(id(1))
	for reader, after := range map[string]string{"ann": id(1), "ben": ""} {
		p.Load(p.url)
		if hello := connectAs(reader).welcome(); hello.After != after {
			t.Errorf("%s comes back after %q, want %q", reader, hello.After, after)
		}
	}
}

func TestAReaderWithoutATokenTellsItsSetsAgain(t *testing.T) {
	t.Parallel()
	p := openPage(t)
	p.Do(`open_({follow: ["tech"]})`)
	s := p.server.accept()
	s.welcome()
	p.Do(`window.followed = outcome(client.follow(["ai"]))`)
	s.send(frame{Type: "subscriptions", Ref: s.read("follow").Ref, Follow: []string{"ai", "tech"}})
	p.until(`e.kind === "sets" && e.follow.length === 2`)
	s.end(1012, "draining")
	if hello := p.server.accept().welcome(); !slices.Equal(hello.Follow, []string{"ai", "tech"}) {
		t.Errorf("second hello follows %v", hello.Follow)
	}
}

func TestBackoffHasFullJitterAndStartsAnewWhenSteady(t *testing.T) {
	t.Parallel()
	p := openPage(t)
	p.Do(`Math.random = () => 0.5; window.timeScale = 0.01; open_({})`)
	var s *session
	want := []int{250, 500, 1000, 2000, 4000, 8000, 10000, 10000}
	for range want {
		s = p.server.accept()
		s.read("hello")
		s.end(4008, "hello_timeout")
	}
	s = p.server.accept()
	got := browsertest.Eval[[]int](p.Tab, `events.filter((e) => e.state === "offline").map((e) => e.retryInMs)`)
	if !slices.Equal(got, want) {
		t.Errorf("waits of %v ms, want %v: half of 500 ms doubled up to 20 s", got, want)
	}
	s.welcome()
	p.until(`e.state === "online"`)
	p.Do(`events.length = 0; const now = Date.now; Date.now = () => now() + 10000`)
	s.end(4009, "slow_reader")
	if off := p.until(`e.state === "offline"`); off.RetryInMs != 250 {
		t.Errorf("after 10 s online it waits %d ms, want 250", off.RetryInMs)
	}
}

func TestByeSaysWhenToComeBack(t *testing.T) {
	t.Parallel()
	p := openPage(t)
	p.Do(`window.timeScale = 0.01; open_({})`)
	s := p.server.accept()
	s.welcome()
	s.send(frame{Type: "bye", Code: 1012, Reason: "draining", Retry: 30000})
	s.end(1012, "")
	off := p.until(`e.state === "offline"`)
	if off.Code != 1012 || off.Reason != "draining" || off.RetryInMs < 25000 {
		t.Errorf("offline with %+v, want code and reason of the bye and about 30 s", off)
	}
	p.server.accept()
}

func TestAStopCodeEndsItForGood(t *testing.T) {
	t.Parallel()
	p := openPage(t)
	p.Do(`open_({}); window.early = outcome(client.follow(["tech"]))`)
	s := p.server.accept()
	s.read("hello")
	s.end(4501, "unauthorized")
	stopped := p.until(`e.state === "stopped"`)
	if stopped.Code != 4501 || stopped.Reason != "unauthorized" {
		t.Errorf("stopped with %+v", stopped)
	}
	for _, promise := range []string{"early", `outcome(client.mute(["late"]))`} {
		if got := browsertest.Eval[struct{ Code string }](p.Tab, promise); got.Code != "stopped" {
			t.Errorf("%s settled with %+v, want code stopped", promise, got)
		}
	}
	p.Do(`window.timeScale = 0; window.dispatchEvent(new Event("online")); window.dispatchEvent(new Event("pageshow"))`)
	if n := p.count(`e.state === "connecting"`); n != 1 {
		t.Errorf("it tried %d times, want once", n)
	}
	p.server.none()
}

func TestGetTokenCanFailOrStop(t *testing.T) {
	t.Parallel()
	p := openPage(t)
	p.Do(`window.timeScale = 0.01; let calls = 0; open_({getToken: () => {
		if (++calls === 1) throw new Error("login is down");
		throw new StopError("logged out");
	}})`)
	if off := p.until(`e.state === "offline"`); !strings.Contains(off.Reason, "login is down") {
		t.Errorf("offline with %+v", off)
	}
	if stopped := p.until(`e.state === "stopped"`); stopped.Reason != "logged out" {
		t.Errorf("stopped with %+v", stopped)
	}
	p.server.none()
}

func TestChangesOfSubscriptionsSettleWithTheAnswer(t *testing.T) {
	t.Parallel()
	p := openPage(t)
	type outcome struct {
		Value   *struct{ Follow, Mute []string }
		Code    string
		Message string
	}
	// Asked for before there is a connection: sent in order once there is one.
	p.Do(`open_({}); window.first = outcome(client.follow(["a"])); window.second = outcome(client.unfollow(["b"]))`)
	s := p.server.accept()
	s.welcome()
	follow, unfollow := s.read("follow"), s.read("unfollow")
	if follow.Ref == unfollow.Ref || !slices.Equal(follow.Tags, []string{"a"}) || !slices.Equal(unfollow.Tags, []string{"b"}) {
		t.Fatalf("got %+v and %+v", follow, unfollow)
	}
	s.send(frame{Type: "error", Ref: unfollow.Ref, Code: "tag_forbidden", Message: "no"},
		frame{Type: "subscriptions", Ref: follow.Ref, Follow: []string{"a"}})
	if got := browsertest.Eval[outcome](p.Tab, "first"); got.Value == nil || !slices.Equal(got.Value.Follow, []string{"a"}) {
		t.Errorf("follow settled with %+v", got)
	}
	if got := browsertest.Eval[outcome](p.Tab, "second"); got.Code != "tag_forbidden" || got.Message != "no" {
		t.Errorf("unfollow settled with %+v", got)
	}
	// Asked for, and lost with the connection: asked again.
	p.Do(`window.third = outcome(client.mute(["c"])); window.fourth = outcome(client.unmute(["d"]))`)
	s.read("mute")
	s.read("unmute")
	s.end(4009, "slow_reader")
	s = p.server.accept()
	s.welcome()
	for _, kind := range []string{"mute", "unmute"} {
		s.send(frame{Type: "subscriptions", Ref: s.read(kind).Ref, Mute: []string{"c"}})
	}
	for _, promise := range []string{"third", "fourth"} {
		if got := browsertest.Eval[outcome](p.Tab, promise); got.Value == nil || !slices.Equal(got.Value.Mute, []string{"c"}) {
			t.Errorf("%s settled with %+v", promise, got)
		}
	}
	// Another session's change comes without a ref.
	s.send(frame{Type: "subscriptions", Follow: []string{"z"}})
	p.until(`e.kind === "sets" && e.follow[0] === "z"`)
	if got := browsertest.Eval[outcome](p.Tab, `outcome(client.follow(Array(9000).fill("x")))`); got.Code != "frame_too_big" {
		t.Errorf("a frame over the limit settled with %+v", got)
	}
}

func TestAGapIsTold(t *testing.T) {
	t.Parallel()
	p := openPage(t)
	p.Do(`const kept = new Map([["newswire " + location.origin.replace("http", "ws") + "/v1/ws : ", "` + id(7) + `"]]);
		open_({storage: {getItem: (k) => kept.get(k) ?? null, setItem: (k, v) => kept.set(k, v), removeItem: (k) => kept.delete(k)}});
		window.kept = kept`)
	s := p.server.accept()
	if hello := s.read("hello"); hello.After != id(7) {
		t.Fatalf("hello = %+v, want after %s", hello, id(7))
	}
	s.send(frame{Type: "welcome", Resume: "gap"})
	if gap := p.until(`e.kind === "gap"`); gap.After != id(7) {
		t.Errorf("gap after %q, want %s", gap.After, id(7))
	}
	if n := browsertest.Eval[int](p.Tab, "kept.size"); n != 0 {
		t.Error("the cursor before the gap is still kept")
	}
}

func TestWakingUpChecksTheConnection(t *testing.T) {
	t.Parallel()
	p := openPage(t)
	p.Do(`open_({})`)
	s := p.server.accept()
	s.welcome()
	p.until(`e.state === "online"`)
	p.Do(`window.dispatchEvent(new Event("online"))`)
	s.read("ping")
	s.send(frame{Type: "pong"}, news(1, 1))
	s.acked(id(1))
	p.Do(`window.timeScale = 0.01; document.dispatchEvent(new Event("resume"))`)
	s.read("ping") // and no answer
	if off := p.until(`e.state === "offline"`); off.Reason != "no answer after waking up" {
		t.Errorf("offline with %+v", off)
	}
	p.server.accept().welcome()
}

func TestAHiddenPageLeavesAndComesBack(t *testing.T) {
	t.Parallel()
	p := openPage(t)
	p.Do(`open_({})`)
	s := p.server.accept()
	s.welcome()
	s.send(news(1, 1))
	p.until(`e.kind === "message"`)
	p.Do(`window.dispatchEvent(new PageTransitionEvent("pagehide", {persisted: true}))`)
	s.acked(id(1)) // before it leaves
	s.ended()
	p.Do(`window.dispatchEvent(new PageTransitionEvent("pageshow", {persisted: true}))`)
	s = p.server.accept()
	s.welcome()
	s.acked(id(1))
	p.Do(`client.close()`)
	s.ended()
	if state := browsertest.Eval[string](p.Tab, "client.state"); state != "stopped" {
		t.Errorf("state after close is %q", state)
	}
}

func TestATokenIsReplacedBeforeItExpires(t *testing.T) {
	t.Parallel()
	p := openPage(t)
	p.Do(`window.timeScale = 0.01; window.token = "old"; open_({})`)
	s := p.server.accept()
	if hello := s.read("hello"); hello.Token != "old" {
		t.Fatalf("hello = %+v", hello)
	}
	p.Do(`window.token = "new"`)
	expires := time.Now().Add(20 * time.Second).Format(time.RFC3339)
	s.send(frame{Type: "welcome", Resume: "none", Expires: expires})
	if f := s.read("token"); f.Token != "new" {
		t.Errorf("refreshed with %+v", f)
	}
	s.send(frame{Type: "token", Expires: expires})
	s.read("token")
}
