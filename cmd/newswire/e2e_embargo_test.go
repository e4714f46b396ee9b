package main

import (
	"fmt"
	"testing"
	"time"

	"newswire/cdc/pgtest"
	"newswire/cmd/newswire/internal/harness"
	"newswire/gateway/gatewaytest"
)

// untilReached makes published_at the time from which on an article is news.
const untilReached = `NEWSWIRE_POSTGRES_TABLES=[{name: public.articles, tags: {column: tags}, data: [id, title], published: {column: published_at, reached: true}}]`

// TestEmbargoedArticlesGoOutOnceThroughKills lets articles wait for times over a
// few seconds and kills the engine again and again meanwhile: before a time, at
// it, and while a time comes.
func TestEmbargoedArticlesGoOutOnceThroughKills(t *testing.T) {
	t.Parallel()
	const articles, kills = 60, 4
	random := seeded(t)
	db := pgtest.New(t)
	e := harness.Start(t, harness.Options{DB: db, Env: []string{untilReached}})
	e.Follow("u1", []string{"tech"}, nil)
	db.Exec(`INSERT INTO articles (id, title, tags, published_at)
		SELECT n, 'number ' || n, '{tech}', now() + '3s' + n * '80ms'::interval FROM generate_series(1, 60) n`)
	db.Exec(`UPDATE articles SET title = 'changed' WHERE id = 60`)
	harness.Eventually(t, "all wait", func() (bool, any) { w := e.Status().Waiting; return w.Articles == articles, w })
	for range kills {
		harness.Pause(t, moment(random))
		e.Kill()
		harness.Pause(t, moment(random))
		e.Restart()
	}
	reader := e.Dial("u1", gatewaytest.Options{})
	last := reader.Until("the last one", func(f gatewaytest.Frame) bool { return string(f.Key) == `{"id":60}` })
	e.AwaitSettled()
	if w := e.Status().Waiting; w.Articles != 0 || !w.Next.IsZero() {
		t.Errorf("%d articles wait, the next until %s", w.Articles, w.Next)
	}
	got := reader.Messages()
	if len(got) != articles || len(reader.IDs()) != articles {
		t.Errorf("%d messages with %d ids, want %d of each", len(got), len(reader.IDs()), articles)
	}
	times := pgtest.Values[time.Time](db, `SELECT published_at FROM articles ORDER BY id`)
	for n, f := range got {
		if want := fmt.Sprintf(`{"id":%d}`, n+1); string(f.Key) != want {
			t.Errorf("message %d is about %s, want %s", n, f.Key, want)
		} else if f.Time.Before(times[n]) {
			t.Errorf("%s went out at %s, before %s", f.Key, f.Time, times[n])
		}
	}
	if last.Data["title"] != "changed" {
		t.Errorf("the last one says %v", last.Data)
	}
}
