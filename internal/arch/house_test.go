package arch

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// module is the name of the module, which its own import paths begin with.
const module = "makeitso/"

// house is the module's source.
type house struct {
	files    *token.FileSet
	packages map[string]*folder // by folder, with slashes
}

// folder is one package's files.
type folder struct{ files []*file }

// file is one parsed Go file.
type file struct {
	path  string
	test  bool
	lines int
	tree  *ast.File
}

func newHouse() *house {
	return &house{files: token.NewFileSet(), packages: map[string]*folder{}}
}

// readHouse parses every Go file below cmd and internal. It parses instead of
// asking "go list", whose answer the test cache does not know to be stale.
func readHouse(root string) (*house, error) {
	h := newHouse()
	for _, top := range []string{"cmd", "internal"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(at string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if name := entry.Name(); entry.IsDir() && (name == "testdata" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")) {
				return filepath.SkipDir
			}
			if entry.IsDir() || filepath.Ext(at) != ".go" {
				return nil
			}
			text, err := os.ReadFile(at)
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(root, at)
			if err != nil {
				return err
			}
			return h.add(filepath.ToSlash(rel), text)
		})
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", top, err)
		}
	}
	return h, nil
}

// add parses one file into the house.
func (h *house) add(name string, text []byte) error {
	tree, err := parser.ParseFile(h.files, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	dir := path.Dir(name)
	if h.packages[dir] == nil {
		h.packages[dir] = &folder{}
	}
	lines := h.files.File(tree.FileStart).LineCount()
	h.packages[dir].files = append(h.packages[dir].files, &file{name, strings.HasSuffix(name, "_test.go"), lines, tree})
	return nil
}

// each calls f with every file, in the order of the folders' names.
func (h *house) each(f func(dir string, file *file)) {
	for _, dir := range h.dirs() {
		for _, file := range h.packages[dir].files {
			f(dir, file)
		}
	}
}

func (h *house) dirs() []string {
	var dirs []string
	for dir := range h.packages {
		dirs = append(dirs, dir)
	}
	slices.Sort(dirs)
	return dirs
}

func (h *house) place(at token.Pos) string {
	p := h.files.Position(at)
	return fmt.Sprintf("%s:%d", p.Filename, p.Line)
}

func (f *file) imports() []string {
	var all []string
	for _, spec := range f.tree.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			panic("arch: the parser let an import through: " + spec.Path.Value)
		}
		all = append(all, name)
	}
	return all
}

// suiteOf gives the package whose suite of tests dir is, "" if it is none.
func suiteOf(dir string) string {
	if parent := path.Dir(dir); path.Base(dir) == path.Base(parent)+"test" {
		return parent
	}
	return ""
}

func forTests(dir string) bool { return suiteOf(dir) != "" || slices.Contains(testOnly, dir) }

// floorOf gives dir's floor; a suite lies just above its package.
func floorOf(dir string) (int, bool) {
	if parent := suiteOf(dir); parent != "" {
		dir = parent
	}
	floor, ok := floors[dir]
	return floor, ok
}

func checkFloors(h *house) (wrong []string) {
	for _, dir := range h.dirs() {
		if _, ok := floorOf(dir); !ok && !forTests(dir) {
			wrong = append(wrong, dir+" has no floor: give it one in the table of internal/arch, and a line in the design's")
		}
	}
	h.each(func(dir string, f *file) {
		floor, ok := floorOf(dir)
		if f.test || !ok {
			return
		}
		for _, name := range f.imports() {
			other, own := strings.CutPrefix(name, module)
			below, known := floorOf(other)
			switch {
			case !own || other == suiteOf(dir):
			case forTests(other) && !forTests(dir):
				wrong = append(wrong, fmt.Sprintf("%s: %s imports %s, which is for tests only", f.path, dir, other))
			case known && below >= floor:
				wrong = append(wrong, fmt.Sprintf("%s: %s (floor %d) imports %s (floor %d): only lower floors may be imported; declare here, as an interface, what is needed of it", f.path, dir, floor, other, below))
			}
		}
	})
	return wrong
}

func checkOwners(h *house) (wrong []string) {
	h.each(func(dir string, f *file) {
		for _, name := range f.imports() {
			first, _, _ := strings.Cut(name, "/")
			if !strings.Contains(first, ".") {
				continue // the standard library and this module have no dot there
			}
			owned, found := ownersOf(name)
			switch {
			case !found:
				wrong = append(wrong, fmt.Sprintf("%s: %s imports %s, which has no owner: enter its module in the table of internal/arch, with the package it belongs to, or do without", f.path, dir, name))
			case f.test || slices.Contains(owned, dir):
			case owned == nil:
				wrong = append(wrong, fmt.Sprintf("%s: %s imports %s, which belongs to tests", f.path, dir, name))
			default:
				wrong = append(wrong, fmt.Sprintf("%s: %s imports %s, which belongs to %s: ask that package for what is needed", f.path, dir, name, strings.Join(owned, " and ")))
			}
		}
	})
	return wrong
}

// ownersOf gives the owners of the module that the import path lies in.
func ownersOf(name string) ([]string, bool) {
	for module, owned := range owners {
		if name == module || strings.HasPrefix(name, module+"/") {
			return owned, true
		}
	}
	return nil, false
}

// impure says whether an import brings the world into a package. Some packages
// below net only compute.
func impure(name string) bool {
	switch name {
	case "net/netip", "net/url", "net/mail", "net/textproto":
		return false
	}
	first, _, _ := strings.Cut(name, "/")
	return first == "os" || first == "net" || first == "syscall" || strings.HasPrefix(name, "database/sql")
}

func checkPure(h *house) (wrong []string) {
	seen := map[string]bool{}
	h.each(func(dir string, f *file) {
		seen[f.path] = true
		if f.test || !slices.Contains(pure, dir) && !slices.Contains(pure, f.path) {
			return
		}
		for _, name := range f.imports() {
			if impure(name) {
				wrong = append(wrong, fmt.Sprintf("%s must stay pure but imports %s: let its caller do that and pass in the result", f.path, name))
			}
		}
		for _, what := range impureUses(f.tree) {
			wrong = append(wrong, fmt.Sprintf("%s must stay pure but %s: let its caller do that and pass in the result", h.place(what.at), what.text))
		}
	})
	for _, name := range pure {
		if strings.HasSuffix(name, ".go") && !seen[name] {
			wrong = append(wrong, name+" is not there: enter in the list of internal/arch where its code has gone")
		}
	}
	return wrong
}

type use struct {
	at   token.Pos
	text string
}

// impureUses finds the goroutines and the uses of the clock.
func impureUses(tree *ast.File) (uses []use) {
	clock := "" // what the file calls package time
	for _, spec := range tree.Imports {
		if spec.Path.Value != `"time"` {
			continue
		}
		clock = "time"
		if spec.Name != nil {
			clock = spec.Name.Name
		}
	}
	asks := []string{"Now", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker", "Since", "Until"}
	ast.Inspect(tree, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			uses = append(uses, use{n.Pos(), "starts a goroutine"})
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && clock != "" && x.Name == clock && slices.Contains(asks, n.Sel.Name) {
				uses = append(uses, use{n.Pos(), "calls time." + n.Sel.Name})
			}
		}
		return true
	})
	return uses
}

func checkComments(h *house) (wrong []string) {
	for _, dir := range h.dirs() {
		name, comment := "", ""
		for _, f := range h.packages[dir].files {
			if f.test {
				continue
			}
			name = f.tree.Name.Name
			if f.tree.Doc != nil {
				comment = f.tree.Doc.Text()
			}
		}
		begin := "Package " + name + " "
		if name == "main" {
			begin = "Command " + path.Base(dir) + " "
		}
		switch {
		case name == "": // tests only
		case comment == "":
			wrong = append(wrong, dir+" has no package comment: say in one sentence what it is, and what it must not know")
		case !strings.HasPrefix(strings.ReplaceAll(comment, "\n", " "), begin):
			wrong = append(wrong, fmt.Sprintf("%s: the package comment does not begin with %q", dir, begin))
		}
	}
	return wrong
}

func checkSizes(h *house) (wrong []string) {
	total := map[string]int{}
	h.each(func(dir string, f *file) {
		if f.test {
			return
		}
		total[dir] += f.lines
		for _, d := range f.tree.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			lines := h.files.Position(fn.End()).Line - h.files.Position(fn.Pos()).Line + 1
			if lines > maxFunctionLines {
				wrong = append(wrong, fmt.Sprintf("%s: %s has %d lines, at most %d are allowed: make functions of its parts", h.place(fn.Pos()), fn.Name.Name, lines, maxFunctionLines))
			}
		}
	})
	for _, dir := range h.dirs() {
		if total[dir] > maxPackageLines {
			wrong = append(wrong, fmt.Sprintf("%s has %d lines without tests, at most %d are allowed: find the second noun in it", dir, total[dir], maxPackageLines))
		}
	}
	return wrong
}

func checkInit(h *house) (wrong []string) {
	h.each(func(_ string, f *file) {
		for _, d := range f.tree.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				wrong = append(wrong, h.place(fn.Pos())+" has an init function: make what it does a constructor's work, or a value's")
			}
		}
	})
	return wrong
}
