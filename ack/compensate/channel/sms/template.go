package sms

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/template"
	"unicode"
	"unicode/utf8"

	"newswire/ack/compensate/channel"
	"newswire/ack/compensate/channel/wire"
)

// fields are what a request is made of.
type fields struct{ To, From, Text, ID string }

// words are what a text is made of.
type words struct{ Title, Body, URL string }

// requests makes texts and requests from the configured templates.
type requests struct {
	method string
	url    string
	text   *template.Template
	body   *template.Template // nil: form
	form   map[string]*template.Template
}

var functions = template.FuncMap{
	"json": func(s string) (string, error) {
		text, err := json.Marshal(s)
		return string(text), err
	},
	"digits": func(s string) string { return strings.TrimPrefix(s, "+") },
}

func parseTemplates(c Config) (*requests, error) {
	var faults []error
	parse := func(name, text string) *template.Template {
		t, err := template.New(name).Funcs(functions).Option("missingkey=error").Parse(text)
		if err != nil {
			faults = append(faults, fmt.Errorf("read the template %s: %w", name, err))
		}
		return t
	}
	r := &requests{method: c.Method, url: c.URL, text: parse("text", c.Text), form: make(map[string]*template.Template)}
	if c.Body != "" {
		r.body = parse("body", c.Body)
	}
	for field, text := range c.Form {
		r.form[field] = parse("form."+field, text)
	}
	return r, errors.Join(faults...)
}

// validateTemplates tries them with a text that must be escaped.
func (c Config) validateTemplates() error {
	r, err := parseTemplates(c)
	if err != nil {
		return err
	}
	n := channel.Notification{Title: "title", Body: "\"quotes\", \\ and\nlines", URL: "https://news.example.com/1"}
	text, err := r.wording(n, mostSegments)
	if err != nil {
		return err
	}
	if !strings.Contains(text, "quotes") {
		return errors.New("text: the template leaves out .Body: write " + defaultText)
	}
	_, err = r.build(fields{To: "+491701234567", From: `"sender"`, Text: text, ID: "id"})
	return err
}

// build makes the request. A body that is no JSON is not sent: its template
// does not escape.
func (r *requests) build(f fields) (wire.Request, error) {
	out := wire.Request{Method: r.method, URL: r.url, Header: make(http.Header)}
	if r.body != nil {
		text, err := execute(r.body, f)
		if err != nil {
			return out, err
		}
		if !json.Valid([]byte(text)) {
			return out, errors.New("body: the template makes no JSON: write {{json .Text}}, without quotes around it, for every value")
		}
		out.Body = []byte(text)
		out.Header.Set("Content-Type", "application/json")
		return out, nil
	}
	form := make(url.Values)
	for _, field := range slices.Sorted(maps.Keys(r.form)) {
		text, err := execute(r.form[field], f)
		if err != nil {
			return out, err
		}
		form.Set(field, text)
	}
	if r.method == http.MethodGet {
		between := "?"
		if strings.Contains(r.url, "?") {
			between = "&"
		}
		out.URL += between + form.Encode()
		return out, nil
	}
	out.Body = []byte(form.Encode())
	out.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return out, nil
}

func execute(t *template.Template, data any) (string, error) {
	var b strings.Builder
	if err := t.Execute(&b, data); err != nil {
		return "", fmt.Errorf("fill the template %s: %w", t.Name(), err)
	}
	return b.String(), nil
}

// wording is the text of n in at most so many segments: where it is too long
// the body loses its end, then the address goes, the body, and the title's end.
func (r *requests) wording(n channel.Notification, segments int) (string, error) {
	w := words{Title: clean(n.Title), Body: clean(n.Body), URL: n.URL}
	if strings.Contains(w.Body, w.URL) {
		w.URL = "" // it is told already
	}
	for {
		text, err := r.fit(w, segments)
		if err != nil || text != "" {
			return text, err
		}
		title := []rune(w.Title)
		switch {
		case w.URL != "":
			w.URL = ""
		case w.Body != "" && len(title) > 0:
			w.Body = ""
		case len(title) > 1:
			w.Title = string(title[:min(len(title)-1, segments*longSeptets)])
		default:
			return "", fmt.Errorf("the text needs more than %d segments even without its body and address", segments)
		}
	}
}

// fit shortens the body until the text has no more than so many segments;
// empty: it has more even without one.
func (r *requests) fit(w words, most int) (string, error) {
	full := []rune(w.Body)
	try := func(n int) (string, bool, error) {
		if n < len(full) {
			w.Body = strings.TrimRightFunc(string(full[:n]), unicode.IsSpace) + "..." // an ellipsis is not in GSM 7
		}
		text, err := execute(r.text, w)
		text = strings.TrimSpace(text)
		return text, segments(text) <= most && text != "", err
	}
	if text, ok, err := try(len(full)); ok || err != nil {
		return text, err
	}
	low, high := 1, min(len(full), most*longSeptets) // none fits below low, or is known to fit at best
	best := ""
	for low < high {
		middle := (low + high) / 2
		text, ok, err := try(middle)
		if err != nil {
			return "", err
		}
		if ok {
			best, low = text, middle+1
		} else {
			high = middle
		}
	}
	return best, nil
}

// clean leaves out what no telephone shows.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return r
		case r == utf8.RuneError, unicode.IsControl(r):
			return ' '
		}
		return r
	}, s)
}
