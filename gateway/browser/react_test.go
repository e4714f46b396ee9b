package browser_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"newswire/gateway/browser/browsertest"
)

// article is the n-th message, about the article with this number.
func article(n int, action string, number int, title string) map[string]any {
	return map[string]any{
		"type": "message", "id": id(n), "action": action, "source": "public.articles",
		"key": map[string]any{"id": number}, "data": map[string]any{"title": title}, "tags": []string{"tech"}, "attempt": 1,
	}
}

func TestAReactPageShowsTheNews(t *testing.T) {
	t.Parallel()
	tab := browsertest.Open(t)
	dir := project(t)
	bundle := filepath.Join(dir, "page.js")
	tool(t, dir, "esbuild", "page.tsx", "--bundle", "--jsx=automatic", "--format=esm", "--log-level=warning", "--outfile="+bundle)
	script, err := os.ReadFile(bundle)
	if err != nil {
		t.Fatal(err)
	}
	server := newFakeServer(t)
	mux := http.NewServeMux()
	mux.Handle("GET /v1/ws", server)
	mux.HandleFunc("GET /page.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		_, _ = w.Write(script)
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte(`<!doctype html><title>News</title><div id="root"></div><script type="module" src="/page.js"></script>`))
	})
	site := httptest.NewServer(mux)
	t.Cleanup(site.Close)
	tab.Load(site.URL)
	// until waits for the titles on the page.
	until := func(want ...string) {
		t.Helper()
		var got []string
		if !browsertest.Until(tab, func() bool {
			got = browsertest.Eval[[]string](tab, `[...document.querySelectorAll("li")].map((li) => li.textContent)`)
			return slices.Equal(got, want)
		}) {
			t.Fatalf("the page shows %q, want %q", got, want)
		}
	}
	tell := func(s *session, articles ...map[string]any) {
		t.Helper()
		for _, a := range articles {
			if err := s.conn.WriteJSON(a); err != nil {
				t.Fatal(err)
			}
		}
	}

	s := server.accept()
	if hello := s.welcome(); hello.Token != "token of ann" || !slices.Equal(hello.Follow, []string{"tech"}) {
		t.Errorf("hello = %+v", hello)
	}
	tell(s, article(1, "publish", 1, "one"), article(2, "publish", 2, "two"), article(3, "publish", 3, "faulty"))
	s.acked(id(1), id(2))
	until("two", "one")
	tell(s, article(4, "correct", 1, "one, corrected"), article(5, "publish", 4, "three"), article(6, "publish", 5, "four"))
	s.acked(id(4), id(5), id(6))
	until("four", "three", "two")
	tell(s, article(7, "correct", 2, "two, corrected"), article(8, "retract", 4, ""), article(5, "publish", 4, "three"))
	s.acked(id(7), id(8), id(5))
	until("four", "two, corrected")

	// Other tags are told as a difference, to the same connection.
	tab.Do(`setFollow(["sport", "ai"])`)
	follow, unfollow := s.read("follow"), s.read("unfollow")
	if !slices.Equal(follow.Tags, []string{"sport", "ai"}) || !slices.Equal(unfollow.Tags, []string{"tech"}) {
		t.Errorf("follow %q and unfollow %q", follow.Tags, unfollow.Tags)
	}
	for _, f := range []frame{follow, unfollow} {
		s.send(frame{Type: "subscriptions", Ref: f.Ref, Follow: []string{"sport", "ai"}})
	}

	// Another reader has another connection and a list of its own.
	tab.Do(`setReader("ben")`)
	s.ended()
	s = server.accept()
	if hello := s.welcome(); hello.Token != "token of ben" || !slices.Equal(hello.Follow, []string{"sport", "ai"}) {
		t.Errorf("hello of the second reader = %+v", hello)
	}
	until()
	tell(s, article(9, "publish", 6, "five"))
	s.acked(id(9))
	until("five")

	tab.Do(`setShown(false)`)
	s.ended()
	server.none()
	if browsertest.Eval[string](tab, `document.body.innerText.trim()`) != "nothing" {
		t.Error("the page does not show that the news are gone")
	}
}
