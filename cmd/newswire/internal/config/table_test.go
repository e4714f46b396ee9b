package config

import (
	"slices"
	"testing"
)

func TestTableNamesAreSplitAsSQLDoes(t *testing.T) {
	for name, want := range map[string][2]string{
		"articles":            {"public", "articles"},
		"cms.Articles":        {"cms", "Articles"},
		`"news.cms"."a""b"`:   {"news.cms", `a"b`},
		`cms."articles"`:      {"cms", "articles"},
		"":                    {},
		".articles":           {},
		"cms.":                {},
		"db.cms.articles":     {},
		`"cms`:                {},
		`"cms"x.articles`:     {},
		`cms."articles".more`: {},
	} {
		schema, table, err := Table{Name: name}.Split()
		if got := [2]string{schema, table}; got != want || (err == nil) != (want[1] != "") {
			t.Errorf("%s: %q, %v, want %q", name, got, err, want)
		}
	}
}

func TestColumnsAreThoseTheMappingNames(t *testing.T) {
	table := Table{Tags: Tags{Columns: []string{"category", "section"}}, Data: []string{"id", "section"}, Published: &Published{Column: "status"}}
	if got, want := table.Columns(), []string{"id", "section", "category", "status"}; !slices.Equal(got, want) {
		t.Errorf("Columns = %q, want %q", got, want)
	}
}
