package cli

import (
	"os"
	"path/filepath"

	"makeitso/internal/diag"
	"makeitso/internal/project"
	"makeitso/internal/template"
)

// templateMistakes checks the templates of all stacks. A template that several
// stacks use is checked once.
func templateMistakes(folder string, p *project.Project) diag.List {
	var mistakes diag.List
	seen := map[string]bool{}
	for _, st := range p.Stacks {
		if seen[st.Template] {
			continue
		}
		seen[st.Template] = true
		src, err := os.ReadFile(filepath.Join(folder, st.Template))
		if err != nil {
			mistakes.Errorf(diag.Pos{File: st.Template}, "%v", err)
			continue
		}
		_, found := template.Parse(st.Template, src)
		mistakes = append(mistakes, found...)
	}
	return mistakes
}
