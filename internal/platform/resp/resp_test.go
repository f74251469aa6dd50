package resp

import (
	"bufio"
	"context"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	"makeitso/internal/fault"
)

// answering is a server that gives one text to whoever connects.
func answering(t *testing.T, text string) Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if _, err = bufio.NewReader(conn).ReadString('\n'); err == nil {
				_, _ = io.WriteString(conn, text)
			}
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-ended })
	return Server{Port: l.Addr().(*net.TCPAddr).Port}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text, want string // words of the answer, or a part of the error
		code       fault.Code
	}{
		{"+PONG\r\n", "PONG", ""},
		{":7\r\n", "7", ""},
		{"$5\r\nhello\r\n", "hello", ""},
		{"$-1\r\n", "", ""},
		{"*2\r\n$1\r\na\r\n$1\r\nb\r\n", "a b", ""},
		{"-ERR no\r\n", "ERR no", fault.Failed},
		{"?\r\n", "the server answers", fault.Failed},
		{"\r\n", "empty line", fault.Failed},
		{"$9999999\r\n", "the server answers", fault.Failed},
	} {
		got, err := answering(t, c.text).Ask(t.Context(), "GET", "x")
		if c.code == "" && (err != nil || strings.Join(got, " ") != c.want) {
			t.Errorf("%q: %q, %v", c.text, got, err)
		}
		if c.code != "" && (!fault.Is(err, c.code) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%q: %v; want %s %s", c.text, err, c.code, c.want)
		}
	}
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (Server{Port: l.Addr().(*net.TCPAddr).Port}).Await(ctx, "SAVE"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a wait that was cancelled: %v", err)
	}
}

func TestInfo(t *testing.T) {
	t.Parallel()
	const text = "# Replication\r\nrole:slave\r\nmaster_link_status:up\r\n"
	told, err := answering(t, "$"+strconv.Itoa(len(text))+"\r\n"+text+"\r\n").Info(t.Context(), "replication")
	if err != nil || told["role"] != "slave" || told["master_link_status"] != "up" || len(told) != 2 {
		t.Errorf("%v, %v", told, err)
	}
	if words := []string{written([]string{"SET", "a b"})}; !slices.Equal(words, []string{"*2\r\n$3\r\nSET\r\n$3\r\na b\r\n"}) {
		t.Errorf("written %q", words)
	}
}
