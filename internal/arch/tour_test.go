package arch

import (
	"fmt"
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"makeitso/internal/testneed"
)

// TestTour says which names in docs/tour.md nothing has any more.
func TestTour(t *testing.T) {
	root := testneed.Root(t)
	h, err := readHouse(root)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "docs", "tour.md"))
	if err != nil {
		t.Fatal(err)
	}
	named, wrong := checkTour(h, string(text))
	if named < 40 {
		t.Errorf("the tour names only %d functions and types of the house", named)
	}
	for _, what := range wrong {
		t.Error(what)
	}
}

func TestTourBites(t *testing.T) {
	h := newHouse()
	if err := h.add("internal/stack/a.go", []byte("package stack\ntype Engine struct{}\ntype Handler interface{ Read() }\nfunc New() {}\nfunc (e *Engine) Plan() {}\nfunc (l lease) free() {}\ntype lease struct{}")); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"`stack.New`, `stack.(*Engine).Plan`, `stack.lease.free`, `stack.Handler`, `stack.Handler.Read`": "",
		"`stack.Engine.Plan`":      "docs/tour.md:1: nothing is called stack.Engine.Plan",
		"\n`stack.(*Engine).Gone`": "docs/tour.md:2: nothing is called stack.(*Engine).Gone",
		"`stack.gone`":             "nothing is called stack.gone",
		"`stck.New`":               "nothing is called stck.New",
		"`state.db`, `stack/a.go`": "",
		"stack.Gone":               "",
	} {
		_, wrong := checkTour(h, text)
		if want == "" && len(wrong) > 0 || want != "" && !slices.ContainsFunc(wrong, func(s string) bool { return strings.Contains(s, want) }) {
			t.Errorf("of %q: got %q, want %q", text, wrong, want)
		}
	}
}

// codeName is how the tour names a function, a method or a type.
var codeName = regexp.MustCompile("`(([a-z]+)\\.(?:\\(\\*\\w+\\)\\.|\\w+\\.)?(\\w+))`")

// checkTour counts the names in text and gives those that do not exist. A word
// of two small parts is a file unless it begins with a package's name.
func checkTour(h *house, text string) (named int, wrong []string) {
	packages, names := h.names()
	for i, line := range strings.Split(text, "\n") {
		for _, match := range codeName.FindAllStringSubmatch(line, -1) {
			full, pkg, last := match[1], match[2], match[3]
			if !packages[pkg] && !ast.IsExported(last) && !strings.Contains(full, "(") {
				continue
			}
			named++
			if !names[full] {
				wrong = append(wrong, fmt.Sprintf("docs/tour.md:%d: nothing is called %s: name what has taken its place", i+1, full))
			}
		}
	}
	return named, wrong
}

// names gives the names of the packages, and of their functions, methods and
// types, without tests.
func (h *house) names() (packages, names map[string]bool) {
	packages, names = map[string]bool{}, map[string]bool{}
	h.each(func(_ string, f *file) {
		pkg := f.tree.Name.Name
		if f.test || pkg == "main" {
			return
		}
		packages[pkg] = true
		for _, d := range f.tree.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				names[pkg+"."+receiver(d)+d.Name.Name] = true
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if s, ok := spec.(*ast.TypeSpec); ok {
						nameType(names, pkg+"."+s.Name.Name, s.Type)
					}
				}
			}
		}
	})
	return packages, names
}

// nameType enters a type, and its methods if it is an interface.
func nameType(names map[string]bool, full string, typ ast.Expr) {
	names[full] = true
	if i, ok := typ.(*ast.InterfaceType); ok {
		for _, m := range i.Methods.List {
			for _, name := range m.Names {
				names[full+"."+name.Name] = true
			}
		}
	}
}

// receiver gives what stands before a method's name, "" before a function's.
func receiver(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return ""
	}
	typ, pointer := d.Recv.List[0].Type, false
	if star, ok := typ.(*ast.StarExpr); ok {
		typ, pointer = star.X, true
	}
	if generic, ok := typ.(*ast.IndexExpr); ok {
		typ = generic.X
	}
	name, ok := typ.(*ast.Ident)
	switch {
	case !ok:
		return ""
	case pointer:
		return "(*" + name.Name + ")."
	}
	return name.Name + "."
}
