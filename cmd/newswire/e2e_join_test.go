package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"newswire/cdc/pgtest"
	"newswire/cmd/newswire/internal/harness"
	"newswire/gateway/gatewaytest"
)

// postsByTerm maps posts whose tags stand in join tables.
const postsByTerm = `NEWSWIRE_POSTGRES_TABLES=[{name: public.wp_posts, data: [ID, post_title], published: {column: post_status, equals: publish},
	tags: {query: "SELECT t.slug FROM wp_term_relationships r JOIN wp_term_taxonomy x USING (term_taxonomy_id) JOIN wp_terms t USING (term_id)
		WHERE r.object_id = $1 AND x.taxonomy = 'post_tag' ORDER BY r.term_order, t.slug", links: [{table: public.wp_term_relationships, key: [object_id]}]}}]`

// TestTagsFromJoinTablesReachTheirFollowers sets a CMS with join tables up as a
// DBA does, and saves as its editors do: the post, its terms and their counts in
// one transaction, terms alone later.
func TestTagsFromJoinTablesReachTheirFollowers(t *testing.T) {
	t.Parallel()
	schema, err := os.ReadFile("../../testdata/cms/join_tables.sql")
	if err != nil {
		t.Fatal(err)
	}
	db := pgtest.New(t, pgtest.WithSchema(string(schema)), pgtest.WithPublication(""))
	name := db.Name + "_s"
	t.Cleanup(func() { db.Exec("DROP OWNED BY " + name + "; DROP ROLE " + name) })
	e := harness.Configure(t, harness.Options{
		DSN: strings.Replace(db.DSN, db.Role+"@", name+"@", 1), Slot: name, Publication: name, Env: []string{postsByTerm},
	})
	if r := e.Run("setup", "--apply", "--minimal", "--admin-dsn", db.SuperDSN); r.Code != 1 || !strings.Contains(r.Stderr, "leave out --minimal") {
		t.Errorf("setup --minimal: code %d, %s", r.Code, r.Stderr)
	}
	if r := e.Run("setup", "--apply", "--admin-dsn", db.SuperDSN); r.Code != 0 {
		t.Fatalf("setup: code %d, %s", r.Code, r.Stderr)
	}
	e.Launch()
	e.AwaitReady()
	tech, sport := e.Dial("tech", gatewaytest.Options{Follow: []string{"tech"}}), e.Dial("sport", gatewaytest.Options{Follow: []string{"sport"}})
	tech.Welcome()
	sport.Welcome()
	told := func(r *gatewaytest.Reader, n int) (all []string) {
		r.WaitMessages(n)
		r.Sync()
		for _, f := range r.Messages() {
			all = append(all, fmt.Sprintf("%s %v %v %s", f.Action, f.Data["ID"], f.Data["post_title"], strings.Join(f.Tags, ",")))
		}
		return all
	}
	save := func(sql string) { db.Exec("BEGIN; " + sql + "; COMMIT") }
	save(`INSERT INTO wp_posts ("ID", post_title, post_status) VALUES (1, 'first', 'publish');
		INSERT INTO wp_term_relationships VALUES (1, 1), (1, 3); UPDATE wp_term_taxonomy SET count = count + 1 WHERE term_taxonomy_id IN (1, 3)`)
	save(`INSERT INTO wp_posts ("ID", post_title) VALUES (2, 'a draft'); INSERT INTO wp_term_relationships VALUES (2, 1)`)
	if got, want := told(tech, 1), []string{"publish 1 first tech"}; !slices.Equal(got, want) {
		t.Errorf("tech was told %q, want %q", got, want)
	}
	save(`INSERT INTO wp_term_relationships VALUES (1, 2); UPDATE wp_term_taxonomy SET count = count + 1 WHERE term_taxonomy_id = 2`)
	if got, want := told(sport, 1), []string{"correct 1 first sport,tech"}; !slices.Equal(got, want) {
		t.Errorf("sport was told %q, want %q", got, want)
	}
	told(tech, 2)
	save(`DELETE FROM wp_term_relationships WHERE object_id = 1 AND term_taxonomy_id = 1`)
	told(tech, 3)
	save(`UPDATE wp_posts SET post_status = 'publish' WHERE "ID" = 2`)
	told(tech, 4)
	save(`DELETE FROM wp_term_relationships WHERE object_id = 1; DELETE FROM wp_posts WHERE "ID" = 1`)
	if got, want := told(sport, 3), []string{"correct 1 first sport,tech", "correct 1 first sport", "retract 1 <nil> sport"}; !slices.Equal(got, want) {
		t.Errorf("sport was told %q, want %q", got, want)
	}
	if got, want := told(tech, 4), []string{"publish 1 first tech", "correct 1 first sport,tech", "correct 1 first sport", "publish 2 a draft tech"}; !slices.Equal(got, want) {
		t.Errorf("tech was told %q, want %q", got, want)
	}
}
