package edge

import (
	"fmt"
	"html"
	"io"
	"net/http"
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
		data.Hosts = t.hostNames()
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
	if _, err := io.WriteString(&x.w, data.html()); err != nil && x.entry.Error == "" {
		x.entry.Error = err.Error()
	}
}

// html writes the page. A template package would do it too, but a program that
// executes a template anywhere keeps all exported methods of all its types:
// that alone is some ten megabytes of makeitso.
func (d pageData) html() string {
	var b strings.Builder
	title := html.EscapeString(d.Title)
	fmt.Fprintf(&b, `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>%s</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:36em;margin:15vh auto;padding:0 1em}small{color:#777}</style>
<h1>%s</h1>
<p>%s</p>
`, title, title, html.EscapeString(d.Text))
	switch {
	case len(d.Hosts) > 0:
		b.WriteString("<p>These are served:</p>\n<ul>\n")
		for _, host := range d.Hosts {
			name := html.EscapeString(host)
			fmt.Fprintf(&b, "<li><a href=\"http://%s:%s/\">%s</a></li>\n", name, d.Port, name)
		}
		b.WriteString("</ul>\n")
	case d.Listed:
		b.WriteString("<p>Nothing is served yet. makeitso status shows what is being brought up.</p>\n")
	}
	fmt.Fprintf(&b, "<p><small>makeitso edge, request %s</small></p>\n</html>\n", html.EscapeString(d.ID))
	return b.String()
}
