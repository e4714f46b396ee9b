package policy

import (
	"errors"
	"fmt"
	"strings"
	"text/template"
	"unicode"
	"unicode/utf8"
)

// Text is how one language words a notification: templates of text/template.
// They see .data (the columns), .tags, .action, and for a digest .count, .title
// (of the newest) and .titles.
type Text struct {
	Title       string
	Body        string
	URL         string
	DigestTitle string
	DigestBody  string
	DigestURL   string
}

// DefaultText is used where a language leaves something out.
func DefaultText() Text {
	return Text{
		Title:       `{{or .data.title .data.headline .data.name "News"}}`,
		Body:        `{{or .data.summary .data.teaser .data.lead}}`,
		URL:         `{{or .data.url .data.link}}`,
		DigestTitle: `{{.count}} new articles`,
		DigestBody:  `{{range $i, $t := .titles}}{{if $i}} · {{end}}{{$t}}{{end}}`,
		DigestURL:   ``,
	}
}

// texts are the parsed templates of one language.
type texts struct{ title, body, url, digestTitle, digestBody, digestURL *template.Template }

func parseTexts(all map[string]Text) (map[string]*texts, error) {
	parsed := make(map[string]*texts)
	var faults []error
	languages := map[string]Text{"": {}}
	for language, t := range all {
		languages[strings.ToLower(language)] = t
	}
	for language, t := range languages {
		base := DefaultText()
		if language != "" {
			base = over(base, languages[""])
		}
		t = over(base, t)
		one := new(texts)
		for _, part := range []struct {
			name string
			text string
			into **template.Template
		}{
			{"title", t.Title, &one.title}, {"body", t.Body, &one.body}, {"url", t.URL, &one.url},
			{"digest_title", t.DigestTitle, &one.digestTitle}, {"digest_body", t.DigestBody, &one.digestBody}, {"digest_url", t.DigestURL, &one.digestURL},
		} {
			tmpl, err := template.New(part.name).Option("missingkey=zero").Funcs(functions).Parse(part.text)
			if err == nil {
				_, err = render(tmpl, sample)
			}
			if err != nil {
				faults = append(faults, fmt.Errorf("compensate.texts.%s.%s is not a template: %w", languageName(language), part.name, err))
				continue
			}
			*part.into = tmpl
		}
		parsed[language] = one
	}
	return parsed, errors.Join(faults...)
}

// languageName is how the configuration calls a language; "" is any other.
func languageName(language string) string {
	if language == "" {
		return "default"
	}
	return language
}

func over(base, t Text) Text {
	for _, part := range []struct{ into, from *string }{
		{&base.Title, &t.Title}, {&base.Body, &t.Body}, {&base.URL, &t.URL},
		{&base.DigestTitle, &t.DigestTitle}, {&base.DigestBody, &t.DigestBody}, {&base.DigestURL, &t.DigestURL},
	} {
		if *part.from != "" {
			*part.into = *part.from
		}
	}
	return base
}

var functions = template.FuncMap{
	"join":  strings.Join,
	"upper": strings.ToUpper,
	"cut":   func(n int, s string) string { return Cut(s, n) },
}

// sample tries a template before anything depends on it.
var sample = map[string]any{
	"data": map[string]string{"title": "t"}, "tags": []string{"tag"}, "action": "publish",
	"count": 2, "title": "t", "titles": []string{"t", "u"},
}

// Words are a notification's, cut to its channel's limits.
type Words struct{ Title, Body, URL string }

// Word words one message, or a digest of several, in a reader's language.
func (p *Policy) Word(messages []Message, language string, title, body int) (Words, error) {
	t := p.language(language)
	newest := messages[len(messages)-1]
	with := map[string]any{"data": newest.Fields, "tags": newest.Tags, "action": newest.Action}
	headline, err := render(t.title, with)
	if err != nil {
		return Words{}, fmt.Errorf("word the title of %s: %w", newest.ID, err)
	}
	templates := [3]*template.Template{t.title, t.body, t.url}
	if len(messages) > 1 {
		var titles []string
		for i := len(messages) - 1; i >= 0; i-- { // the newest first: what is cut off is the oldest
			m := messages[i]
			one, err := render(t.title, map[string]any{"data": m.Fields, "tags": m.Tags, "action": m.Action})
			if err != nil {
				return Words{}, fmt.Errorf("word the title of %s: %w", m.ID, err)
			}
			titles = append(titles, one)
		}
		with["count"], with["title"], with["titles"] = len(messages), headline, titles
		templates = [3]*template.Template{t.digestTitle, t.digestBody, t.digestURL}
	}
	var texts [3]string
	for i, tmpl := range templates {
		if texts[i], err = render(tmpl, with); err != nil {
			return Words{}, fmt.Errorf("word %s of %s: %w", tmpl.Name(), newest.ID, err)
		}
	}
	return Words{Cut(texts[0], title), Cut(texts[1], body), texts[2]}, nil
}

// language finds the templates for de-AT: those of de-AT, of de, or the default.
func (p *Policy) language(tag string) *texts {
	for tag = strings.ToLower(tag); ; {
		if t := p.texts[tag]; t != nil {
			return t
		}
		i := strings.LastIndexByte(tag, '-')
		if i < 0 {
			return p.texts[""]
		}
		tag = tag[:i]
	}
}

func render(t *template.Template, with map[string]any) (string, error) {
	var out strings.Builder
	if err := t.Execute(&out, with); err != nil {
		return "", err
	}
	// One line, without what a phone would not show.
	return strings.Join(strings.FieldsFunc(out.String(), func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r)
	}), " "), nil
}

// Cut shortens a text to so many characters, at a word where one ends near, and
// says so by an ellipsis. 0 means no limit.
func Cut(s string, most int) string {
	if most <= 0 || utf8.RuneCountInString(s) <= most {
		return s
	}
	runes := []rune(s)[:most-1]
	for i := len(runes) - 1; i > most*3/4; i-- {
		if unicode.IsSpace(runes[i]) {
			runes = runes[:i]
			break
		}
	}
	return strings.TrimRightFunc(string(runes), unicode.IsSpace) + "…"
}
