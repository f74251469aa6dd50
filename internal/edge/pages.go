package edge

import (
	"html/template"
	"net/http"
	"slices"
	"strings"
)

// page answers with a small page of the edge's own.
func (x *exchange) page(status int, title, text string) {
	x.render(status, pageData{Title: title, Text: text})
}

// unknownHost answers for a host name nobody has. On .localhost, where only
// this machine's people ask, it lists the names there are.
func (x *exchange) unknownHost(t *table) {
	data := pageData{Title: "nothing is served here", Text: "No service or site has the host name " + x.host + "."}
	if x.host == "localhost" || strings.HasSuffix(x.host, ".localhost") {
		_, data.Port, _ = strings.Cut(x.plane.listen[strings.LastIndex(x.plane.listen, "]")+1:], ":")
		for h := range t.services {
			data.Hosts = append(data.Hosts, h)
		}
		for h := range t.sites {
			data.Hosts = append(data.Hosts, h)
		}
		slices.Sort(data.Hosts)
		data.Listed = true
	}
	x.render(http.StatusNotFound, data)
}

type pageData struct {
	Title, Text, ID, Port string
	Listed                bool
	Hosts                 []string
}

func (x *exchange) render(status int, data pageData) {
	data.ID = x.entry.ID
	h := x.w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Request-Id", x.entry.ID)
	x.w.WriteHeader(status)
	if err := x.plane.pages.Execute(x.w, data); err != nil && x.entry.Error == "" {
		x.entry.Error = err.Error()
	}
}

func parsePages() *template.Template {
	return template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{{.Title}}</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:36em;margin:15vh auto;padding:0 1em}small{color:#777}</style>
<h1>{{.Title}}</h1>
<p>{{.Text}}</p>
{{- if .Hosts}}
<p>These are served:</p>
<ul>{{range .Hosts}}
<li><a href="http://{{.}}:{{$.Port}}/">{{.}}</a></li>{{end}}
</ul>
{{- else if .Listed}}
<p>Nothing is served yet. makeitso status shows what is being brought up.</p>
{{- end}}
<p><small>makeitso edge, request {{.ID}}</small></p>
</html>
`))
}
