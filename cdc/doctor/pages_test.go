package doctor_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// checkName is the form of a check's name.
var checkName = regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)

// checks finds the names of all checks in the code: what stands first in the
// calls that add a finding or an alarm, and the constants that do.
func checks(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]bool)
	for _, file := range append(files, "../slot/alarm.go") {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		literal := func(e ast.Expr) {
			if l, ok := e.(*ast.BasicLit); ok && l.Kind == token.STRING {
				if name, err := strconv.Unquote(l.Value); err == nil && checkName.MatchString(name) {
					found[name] = true
				}
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				name := ""
				switch fun := n.Fun.(type) {
				case *ast.SelectorExpr:
					name = fun.Sel.Name
				case *ast.Ident:
					name = fun.Name
				}
				if slices.Contains([]string{"ok", "warn", "fatal", "room", "add"}, name) {
					literal(n.Args[0])
				}
			case *ast.ValueSpec:
				if n.Names[0].Name == "check" && len(n.Values) > 0 {
					literal(n.Values[0])
				}
			}
			return true
		})
	}
	var names []string
	for name := range found {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func TestEveryFindingHasItsPage(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var pages []string
	for _, m := range regexp.MustCompile(`(?m)^##### (.*)$`).FindAllStringSubmatch(string(text), -1) {
		pages = append(pages, m[1])
	}
	slices.Sort(pages)
	names := checks(t)
	if len(names) < 40 {
		t.Errorf("only %d checks were found in the code: %v", len(names), names)
	}
	if diff := cmp.Diff(names, pages); diff != "" {
		t.Errorf("pages of the README (-checks +pages):\n%s", diff)
	}
	for page := range strings.SplitSeq(string(text), "\n##### ") {
		name, rest, _ := strings.Cut(page, "\n")
		if slices.Contains(names, name) && (!strings.Contains(rest, "*Look:*") || !strings.Contains(rest, "*Do:*")) {
			t.Errorf("the page of %s does not say where to look or what to do", name)
		}
	}
}
