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

// maxTemplate is how many bytes a template may have in CloudFormation.
const maxTemplate = 1_000_000

// judgeTemplate checks a template offline: the language, and the types as far
// as the registry tells. Without a limit for resources, none of CloudFormation's
// on the size of a template counts.
func judgeTemplate(file string, src []byte, maxResources int) diag.List {
	t, mistakes := template.ParseWith(file, src, template.Options{MaxResources: maxResources})
	if maxResources > 0 && len(src) > maxTemplate {
		d := mistakes.Errorf(diag.Pos{File: file}, "Template may not exceed %d bytes in size: it has %d", maxTemplate, len(src))
		d.Hint = "split it into nested stacks"
	}
	if t == nil {
		return mistakes
	}
	mistakes = append(mistakes, t.CheckTypes(nil)...)
	mistakes.Sort()
	return mistakes
}

// path gives where a file is that is named on the command line.
func (a *app) path(file string) string {
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(a.start(), file)
}

// sources gives the text of files named on the command line, each read once:
// one file can have many mistakes.
func (a *app) sources() func(string) []byte {
	last, text := "", []byte(nil)
	return func(file string) []byte {
		if file != last {
			last = file
			text, _ = os.ReadFile(a.path(file)) // without it the line is not shown
		}
		return text
	}
}
