package doctor

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// String prints the report for people: the worst first, one paragraph for each
// finding that needs somebody and one line for each that does not.
func (r Report) String() string {
	var b strings.Builder
	for _, level := range []Level{Fatal, Warn, OK} {
		for _, f := range r.Findings {
			if f.Level != level {
				continue
			}
			fmt.Fprintf(&b, "%-5s  %-22s  %s: %s\n", f.Level, f.Check, f.Object, f.Message)
			if f.Remedy != "" {
				fmt.Fprintf(&b, "%-5s  %-22s  remedy: %s\n", "", "", f.Remedy)
			}
		}
	}
	fmt.Fprintf(&b, "%d fatal, %d to look at, %d in order\n", r.Count(Fatal), r.Count(Warn), r.Count(OK))
	if r.Count(Fatal)+r.Count(Warn) > 0 {
		b.WriteString("README.md has a page for each finding, under its name\n")
	}
	return b.String()
}

// MarshalJSON adds the counts, so that a program need not know the levels.
func (r Report) MarshalJSON() ([]byte, error) {
	findings := slices.Clone(r.Findings)
	if findings == nil {
		findings = []Finding{}
	}
	for i, f := range findings {
		findings[i].Page = "README.md#" + f.Check
	}
	return json.Marshal(struct {
		Fatal    int       `json:"fatal"`
		Warn     int       `json:"warn"`
		OK       int       `json:"ok"`
		Findings []Finding `json:"findings"`
	}{r.Count(Fatal), r.Count(Warn), r.Count(OK), findings})
}

// splitRemedy parts a sentence that carries its remedy behind a semicolon.
func splitRemedy(sentence string) (message, remedy string) {
	message, remedy, _ = strings.Cut(sentence, "; ")
	return message, remedy
}

// oneLine prints an error that lists every address tried as one line.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// list joins names as a sentence does.
func list(names []string) string {
	if n := len(names); n > 1 {
		return strings.Join(names[:n-1], ", ") + " and " + names[n-1]
	}
	return strings.Join(names, "")
}
