// Command acceptance checks the built page as a browser meets it, over HTTP:
// that it is there, that all it refers to is there, under names that change
// with the content, and that nothing of the sources was left in it. Run it in
// the project's folder after the build: go run ./client/acceptance
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"time"
)

var (
	reference = regexp.MustCompile(`(?:src|href)="([^"]+)"`)
	hashed    = regexp.MustCompile(`^[a-z]+-[A-Z0-9]{8}\.(js|css)$`)
)

func main() {
	if err := check("client/dist"); err != nil {
		fmt.Fprintln(os.Stderr, "acceptance:", err)
		os.Exit(1)
	}
}

func check(dir string) (err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.FileServer(http.Dir(dir)), ReadHeaderTimeout: time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() {
		err = errors.Join(err, server.Close())
		if end := <-served; !errors.Is(end, http.ErrServerClosed) {
			err = errors.Join(err, end)
		}
	}()
	return checkPage("http://" + listener.Addr().String())
}

func checkPage(site string) error {
	page, err := get(site+"/", "text/html")
	if err != nil {
		return err
	}
	if !strings.Contains(page, "<title>shop</title>") {
		return fmt.Errorf("%s/ is not the shop's page:\n%s", site, page)
	}
	found := 0
	for _, match := range reference.FindAllStringSubmatch(page, -1) {
		name := match[1]
		if strings.HasPrefix(name, "data:") {
			continue
		}
		if !hashed.MatchString(name) {
			return fmt.Errorf("the page refers to %q, whose name does not change with its content", name)
		}
		want := "text/css"
		if strings.HasSuffix(name, ".js") {
			want = "text/javascript"
		}
		content, err := get(site+"/"+name, want)
		if err != nil {
			return err
		}
		if content == "" {
			return fmt.Errorf("%s is empty", name)
		}
		fmt.Printf("%s: %d bytes\n", name, len(content))
		found++
	}
	if found != 2 {
		return fmt.Errorf("the page refers to %d files, not to a script and a style", found)
	}
	return nil
}

func get(url, contentType string) (string, error) {
	res, err := http.Get(url)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(res.Body)
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return "", err
	}
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s answers %s", url, res.Status)
	}
	if got := res.Header.Get("Content-Type"); !strings.HasPrefix(got, contentType) {
		return "", fmt.Errorf("%s is %s, not %s", url, got, contentType)
	}
	return string(body), nil
}
