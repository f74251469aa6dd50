// Package acceptance asks a running service for what a customer needs of it.
// SERVICE_URL says where it is. It walks the main road once and no more: what
// goes wrong now and then is for the canary to find.
package acceptance

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestCustomerBuysTea(t *testing.T) {
	service := strings.TrimSuffix(os.Getenv("SERVICE_URL"), "/")
	if service == "" {
		t.Skip("SERVICE_URL names no service")
	}
	cart := "?cart=acceptance" + strconv.FormatInt(time.Now().UnixNano(), 36)

	var version struct{ Version string }
	ask(t, "GET", service+"/version", http.StatusOK, &version)
	if !strings.HasPrefix(version.Version, "v") {
		t.Errorf("version %q", version.Version)
	}
	var added struct{ Items int }
	ask(t, "POST", service+"/cart"+cart, http.StatusOK, &added)
	if added.Items != 1 {
		t.Errorf("a new cart holds %d things after one was added", added.Items)
	}
	var placed struct{ ID, Items int }
	ask(t, "POST", service+"/orders"+cart, http.StatusCreated, &placed)
	if placed.Items != 1 || placed.ID == 0 {
		t.Errorf("the order is %+v", placed)
	}
	var orders struct {
		Total  int
		Newest []struct{ ID, Items int }
	}
	ask(t, "GET", service+"/orders", http.StatusOK, &orders)
	found := false
	for _, o := range orders.Newest {
		found = found || o == placed
	}
	if !found || orders.Total < 1 {
		t.Errorf("order %+v is not among %+v", placed, orders)
	}
}

func ask(t *testing.T, method, url string, status int, into any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err = errors.Join(err, res.Body.Close()); err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != status {
		t.Fatalf("%s %s: %s, want %d\n%s", method, url, res.Status, status, body)
	}
	if err := json.Unmarshal(body, into); err != nil {
		t.Fatalf("%s %s: %v\n%s", method, url, err, body)
	}
}
