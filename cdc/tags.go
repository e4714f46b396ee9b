package cdc

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode"
	"unicode/utf8"
)

// tagFault tells why a text cannot be a tag; "" when it can.
func tagFault(s string) tagFate {
	switch {
	case s == "":
		return tagEmpty
	case s == anyTag:
		return tagWildcard
	case len(s) > maxTagBytes:
		return tagTooLong
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return tagControl
	}
	return ""
}

// tagList collects a row's tags: as stored, in order, without repeats.
type tagList struct {
	tags []string
	seen map[string]struct{}
	skip func(tagFate) // told of each that cannot be used
}

func (l *tagList) add(s string) {
	if why := tagFault(s); why != "" {
		l.skip(why)
		return
	}
	if _, again := l.seen[s]; again {
		return
	}
	if l.seen == nil {
		l.seen = make(map[string]struct{})
	}
	l.seen[s] = struct{}{}
	l.tags = append(l.tags, s)
}

// addJSON takes a column's value as JSON: an array gives its elements, a text
// is one tag or, with split, a comma separated list; spaces around either do
// not count.
func (l *tagList) addJSON(value []byte, split bool) {
	d := json.NewDecoder(bytes.NewReader(value))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		l.skip(tagNotText)
		return
	}
	text, ok := v.(string)
	switch {
	case !ok:
		l.addValue(v)
	case split:
		for part := range strings.SplitSeq(text, ",") {
			l.add(strings.TrimSpace(part))
		}
	default:
		l.add(strings.TrimSpace(text))
	}
}

func (l *tagList) addValue(v any) {
	switch v := v.(type) {
	case string:
		l.add(v)
	case json.Number:
		l.add(v.String())
	case []any:
		for _, element := range v {
			l.addValue(element)
		}
	case nil:
		l.skip(tagNull)
	default: // true, false, an object
		l.skip(tagNotText)
	}
}
