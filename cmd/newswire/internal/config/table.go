package config

import (
	"fmt"
	"slices"
	"strings"
)

// Split gives the table's schema and own name. Either part may stand in double
// quotes, as in SQL, when it has a dot itself; without a schema it is public.
func (t Table) Split() (schema, name string, err error) {
	first, rest := cutName(t.Name)
	second, more := cutName(strings.TrimPrefix(rest, "."))
	switch {
	case first != "" && rest == "":
		return "public", first, nil
	case first != "" && second != "" && more == "":
		return first, second, nil
	}
	return "", "", fmt.Errorf("table name %q: want schema.table", t.Name)
}

// cutName takes the first part off a dotted name; rest begins with the dot. A
// part that is not closed, or goes on behind its quotes, is empty.
func cutName(s string) (part, rest string) {
	if !strings.HasPrefix(s, `"`) {
		if i := strings.IndexByte(s, '.'); i >= 0 {
			return s[:i], s[i:]
		}
		return s, ""
	}
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] != '"':
		case i+1 < len(s) && s[i+1] == '"':
			i++ // a doubled quote is one of the name's
		case i+1 == len(s) || s[i+1] == '.':
			return strings.ReplaceAll(s[1:i], `""`, `"`), s[i+1:]
		default:
			return "", s
		}
	}
	return "", s
}

// Columns lists every column that the mapping names, each once.
func (t Table) Columns() []string {
	all := slices.Concat(t.Data, t.Tags.Columns)
	if t.Tags.Column != "" {
		all = append(all, t.Tags.Column)
	}
	for p := t.Published; p != nil; p = p.And {
		all = append(all, p.Column)
	}
	if t.Time != "" {
		all = append(all, t.Time)
	}
	var once []string
	for _, column := range all {
		if !slices.Contains(once, column) {
			once = append(once, column)
		}
	}
	return once
}
