package edge

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

func TestMetrics(t *testing.T) {
	e := start(t, Options{Metrics: "127.0.0.1:0"})
	c := twoArms(1, backend(t, says("x")), backend(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }), 1e-12)
	c.Services[0].Name = `a"b`
	e.configure(t, c)
	for range 3 {
		e.get(t, apiHost, "/")
	}
	eventually(t, "they are counted", func() bool { return e.stats(t).Services[`a"b`]["old"].Requests == 3 })
	overSocket := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", e.options.Socket)
	}}}
	for name, get := range map[string]func() (*http.Response, error){
		"socket":  func() (*http.Response, error) { return overSocket.Get("http://edge/metrics") },
		"address": func() (*http.Response, error) { return e.http.Get("http://" + e.stats(t).Metrics + "/metrics") },
	} {
		res, err := get()
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			"# TYPE makeitso_edge_requests_total counter\n",
			`makeitso_edge_requests_total{service="a\"b",arm="old",class="2xx"} 3` + "\n",
			`makeitso_edge_request_duration_seconds_bucket{service="a\"b",arm="old",le="+Inf"} 3` + "\n",
			`makeitso_edge_request_duration_seconds_bucket{service="a\"b",arm="canary",le="0.0025"} 0` + "\n",
			`makeitso_edge_upstream_up{instance="old-0"} 1` + "\n",
			"makeitso_edge_configuration_version 1\n",
		} {
			if !strings.Contains(string(raw), want) {
				t.Errorf("%s: there is no %q in\n%s", name, want, raw)
			}
		}
	}
}
