// Package resp asks a Redis server on this machine, one command at a time. It
// knows the protocol; it must not know what a server is for, or who runs it.
package resp

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"makeitso/internal/fault"
)

// Server is one that listens on loopback.
type Server struct {
	Port     int
	Password string // "" for one that asks for none
}

// answerTime is how long an answer may take that is not waited for.
const answerTime = 2 * time.Second

// Ask sends one command and gives the texts of the answer, which must come
// soon. A server that cannot be reached is fault.Unavailable, a command that is
// refused fault.Failed.
func (s Server) Ask(ctx context.Context, words ...string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	return s.Await(ctx, words...)
}

// Await is Ask for a command that may take as long as ctx lasts.
func (s Server) Await(ctx context.Context, words ...string) (answer []string, err error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)))
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "reach the server")
	}
	defer conn.Close() // the answer is here, or an error is told already
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	reader := bufio.NewReader(conn)
	commands := [][]string{words}
	if s.Password != "" {
		commands = [][]string{{"AUTH", s.Password}, words}
	}
	for _, command := range commands {
		if _, err = io.WriteString(conn, written(command)); err == nil {
			answer, err = read(reader)
		}
		if ctx.Err() != nil {
			return nil, fault.Wrap(fault.Unavailable, context.Cause(ctx), "wait for the server's answer")
		}
		if err != nil {
			return nil, err
		}
	}
	return answer, nil
}

// written is a command as it is sent.
func written(words []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(words))
	for _, word := range words {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(word), word)
	}
	return b.String()
}

// Ping asks a server PING and wants PONG. One that is still loading its data is
// fault.Unavailable as well.
func (s Server) Ping(ctx context.Context) error {
	answer, err := s.Ask(ctx, "PING")
	if fault.Is(err, fault.Failed) {
		return fault.Wrap(fault.Unavailable, err, "it does not answer PING with PONG")
	}
	if err == nil && (len(answer) != 1 || answer[0] != "PONG") {
		err = fault.New(fault.Unavailable, "it answers %q", answer)
	}
	return err
}

// Parameter gives a parameter of the server, known is false if it has none of
// that name.
func (s Server) Parameter(ctx context.Context, name string) (value string, known bool, err error) {
	answer, err := s.Ask(ctx, "CONFIG", "GET", name)
	if err != nil || len(answer) != 2 {
		return "", false, err
	}
	return answer[1], true, nil
}

// Info gives a section of what the server tells of itself.
func (s Server) Info(ctx context.Context, section string) (map[string]string, error) {
	answer, err := s.Ask(ctx, "INFO", section)
	if err != nil {
		return nil, err
	}
	told := map[string]string{}
	for line := range strings.Lines(strings.Join(answer, "\n")) {
		if name, value, found := strings.Cut(strings.TrimSpace(line), ":"); found {
			told[name] = value
		}
	}
	return told, nil
}

// longest bounds what is read of one text of an answer.
const longest = 1 << 20

// read reads a status, a text or a list of these.
func read(from *bufio.Reader) ([]string, error) {
	line, err := from.ReadString('\n')
	if err != nil {
		return nil, err
	}
	line = strings.TrimRight(line, "\r\n")
	if line == "" {
		return nil, fault.New(fault.Failed, "the server answers an empty line")
	}
	kind, rest := line[0], line[1:]
	switch kind {
	case '+', ':':
		return []string{rest}, nil
	case '-':
		return nil, fault.New(fault.Failed, "%s", rest)
	}
	length, err := strconv.Atoi(rest)
	if err != nil || length > longest || kind != '$' && kind != '*' {
		return nil, fault.New(fault.Failed, "the server answers %q", line)
	}
	if kind == '$' {
		if length < 0 {
			return nil, nil
		}
		text := make([]byte, length+len("\r\n"))
		_, err := io.ReadFull(from, text)
		return []string{string(text[:length])}, err
	}
	var all []string
	for range length {
		item, err := read(from)
		if err != nil {
			return nil, err
		}
		all = append(all, item...)
	}
	return all, nil
}
