package sms

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

const (
	defaultSegments = 3
	mostSegments    = 10
	defaultText     = "{{.Title}}{{with .Body}}: {{.}}{{end}}{{with .URL}} {{.}}{{end}}"
)

func (c Config) withDefaults() Config {
	set := func(s *string, to string) {
		if *s == "" {
			*s = to
		}
	}
	set(&c.Method, http.MethodPost)
	set(&c.Text, defaultText)
	set(&c.SignatureHeader, "X-Signature")
	set(&c.TimestampHeader, "X-Timestamp")
	if c.Segments == 0 {
		c.Segments = defaultSegments
	}
	return c
}

var (
	headerName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")
	prefix     = regexp.MustCompile(`^\+[1-9][0-9]{0,14}$`)
)

// Validate says all that is wrong with c, without reading a file. The templates
// are tried with a text that has everything in it that must be escaped.
func (c Config) Validate() error {
	var faults []error
	add := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	c = c.withDefaults()
	if u, err := url.Parse(c.URL); err != nil || u.Host == "" || u.Scheme != "https" && !(u.Scheme == "http" && c.AllowHTTP) || u.User != nil || u.Fragment != "" {
		add("url is no https address without a password in it: write https://gateway.example.com/send (http needs allow_http)")
	}
	if !slices.Contains([]string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodGet}, c.Method) {
		add("method %q is none of POST, PUT, PATCH, GET", c.Method)
	}
	switch {
	case c.Body == "" && len(c.Form) == 0:
		add("body is empty: give a template for it, or for the fields of form")
	case c.Body != "" && len(c.Form) > 0:
		add("body and form are both given: keep one")
	case c.Body != "" && c.Method == http.MethodGet:
		add("body goes with no GET: use form")
	}
	if c.Segments < 1 || c.Segments > mostSegments {
		add("segments is %d: set 1 to %d", c.Segments, mostSegments)
	}
	for _, p := range c.Prefixes {
		if !prefix.MatchString(p) {
			add("prefixes: %q is no beginning of an international number: write +49", p)
		}
	}
	if (c.Username == "") != (c.PasswordFile == "") {
		add("username and password_file go together")
	}
	faults = append(faults, c.validateHeaders(), c.validateTemplates(), c.HTTP.Validate())
	if _, err := parseRules(c.Answers); err != nil {
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

func (c Config) validateHeaders() error {
	var faults []error
	names := []string{c.SignatureHeader, c.TimestampHeader}
	if c.IdempotencyHeader != "" {
		names = append(names, c.IdempotencyHeader)
	}
	for name, value := range c.Headers {
		names = append(names, name)
		if strings.ContainsAny(value, "\r\n\x00") {
			faults = append(faults, fmt.Errorf("headers.%s has more than one line", name))
		}
	}
	for name := range c.SecretHeaders {
		names = append(names, name)
	}
	for _, name := range names {
		if !headerName.MatchString(name) {
			faults = append(faults, fmt.Errorf("%q is no name of a header", name))
		}
	}
	return errors.Join(faults...)
}
