package cdc

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// tagQuery is a configured query, cut at its parameters, so that one statement
// can ask it for many rows: each parameter becomes a column of the row that is
// asked about, and so has that column's type.
type tagQuery struct {
	parts  []string // what stands around the parameters: one more than params
	params []int    // their numbers, from 1
}

// Names in the statements made of a query, which no CMS uses.
const (
	rowAlias = "newswire_row" // the row that is asked about
	keyAlias = "newswire_key" // the list of keys
)

var (
	errQueryEmpty    = errors.New("is empty")
	errQueryOpen     = errors.New("has a quote or a comment that is not closed")
	errQueryNoParam  = errors.New("has no $1, so it cannot depend on the row; compare something with $1, the row's key")
	errQueryBadParam = errors.New("has a parameter $0; they are counted from $1")
)

// parseQuery finds the parameters, wherever SQL would take them for such.
func parseQuery(sql string) (*tagQuery, error) {
	q := new(tagQuery)
	from, until := 0, len(sql) // until: where it ends but for blanks, comments and semicolons
	for i := 0; i < len(sql); {
		end := skipOpaque(sql, i)
		switch c := sql[i]; {
		case c == ';' && until == len(sql):
			until = i
		case c != ';' && c != ' ' && c != '\t' && c != '\r' && c != '\n' && !isComment(sql[i:]):
			until = len(sql)
		}
		switch {
		case end < 0:
			return nil, errQueryOpen
		case end > i:
			i = end
		case sql[i] == '$':
			end := i + 1
			for end < len(sql) && isDigit(sql[end]) {
				end++
			}
			if n, err := strconv.Atoi(sql[i+1 : end]); err == nil {
				if n == 0 {
					return nil, errQueryBadParam
				}
				q.parts, q.params = append(q.parts, sql[from:i]), append(q.params, n)
				from = end
			}
			i = end
		default:
			i++
		}
	}
	if strings.TrimSpace(sql[:until]) == "" {
		return nil, errQueryEmpty
	}
	if q.parts = append(q.parts, sql[from:until]); len(q.params) == 0 {
		return nil, errQueryNoParam
	}
	return q, nil
}

// skipOpaque gives the end of what begins at i and cannot hold a parameter: a
// quoted text or name, a comment, or a word. It is i when nothing such begins
// there, and -1 when it is not closed.
func skipOpaque(sql string, i int) (end int) {
	rest := sql[i:]
	switch c := rest[0]; {
	case c == '\'':
		return skipQuoted(sql, i+1, '\'', false)
	case c == '"':
		return skipQuoted(sql, i+1, '"', false)
	case isComment(rest) && c == '-':
		if n := strings.IndexByte(rest, '\n'); n >= 0 {
			return i + n
		}
		return len(sql)
	case isComment(rest):
		return skipComment(sql, i)
	case (c == 'e' || c == 'E') && len(rest) > 1 && rest[1] == '\'':
		return skipQuoted(sql, i+2, '\'', true)
	case isWordStart(c):
		for i < len(sql) && (isWordStart(sql[i]) || isDigit(sql[i]) || sql[i] == '$') {
			i++
		}
		return i
	case c == '$':
		return skipDollarQuoted(sql, i)
	}
	return i
}

// skipQuoted gives the end behind the closing quote; a doubled one is none.
func skipQuoted(sql string, i int, quote byte, backslashes bool) int {
	for ; i < len(sql); i++ {
		switch {
		case backslashes && sql[i] == '\\':
			i++
		case sql[i] != quote:
		case i+1 < len(sql) && sql[i+1] == quote:
			i++
		default:
			return i + 1
		}
	}
	return -1
}

// skipComment gives the end of a comment, in which others may be nested.
func skipComment(sql string, i int) int {
	for depth := 0; i < len(sql); {
		switch {
		case strings.HasPrefix(sql[i:], "/*"):
			depth++
			i += 2
		case strings.HasPrefix(sql[i:], "*/"):
			i += 2
			if depth--; depth == 0 {
				return i
			}
		default:
			i++
		}
	}
	return -1
}

// skipDollarQuoted gives the end of $tag$…$tag$; i when it is none.
func skipDollarQuoted(sql string, i int) int {
	end := i + 1
	for end < len(sql) && (isWordStart(sql[end]) || end > i+1 && isDigit(sql[end])) {
		end++
	}
	if end == len(sql) || sql[end] != '$' {
		return i
	}
	tag := sql[i : end+1]
	n := strings.Index(sql[end+1:], tag)
	if n < 0 {
		return -1
	}
	return end + 1 + n + len(tag)
}

func isComment(sql string) bool { return strings.HasPrefix(sql, "--") || strings.HasPrefix(sql, "/*") }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isWordStart(c byte) bool {
	return c == '_' || c >= 0x80 || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// most is the highest parameter.
func (q *tagQuery) most() int { return slices.Max(q.params) }

// with gives the query with something in place of its parameters.
func (q *tagQuery) with(param func(n int) string) string {
	var b strings.Builder
	for i, n := range q.params {
		b.WriteString(q.parts[i])
		b.WriteString(param(n))
	}
	b.WriteString(q.parts[len(q.params)])
	return b.String()
}

// expression is the tags of the row rowAlias as one JSON array, in the order in
// which the query gives them; NULL when it gives none.
func (q *tagQuery) expression(key []string) string {
	// The line's end closes what may be a comment.
	return "(SELECT pg_catalog.json_agg(newswire_tags.tag) FROM (" + q.with(func(n int) string {
		return rowAlias + "." + pgx.Identifier{key[n-1]}.Sanitize()
	}) + "\n) AS newswire_tags(tag))"
}
