package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// minAnswers is the target for DNS answers a second.
const minAnswers = 20000

// How the load is made: as many askers, each with a socket and with questions
// under way of its own.
const (
	askers   = 8
	underWay = 4
	asked    = 20000 // questions of a round
	patience = 5 * time.Second
)

// dns measures the DNS server beside a program that only sends back what it
// gets: what the machine could do at most.
func (b *bench) dns(ctx context.Context) (err error) {
	serve, stop, err := b.dnsServer(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	echo, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var echoing sync.WaitGroup
	defer echoing.Wait()
	defer echo.Close()
	echoing.Go(func() { sendBack(echo) })
	q := question("www.example.com")
	t, err := alternate(b.rounds,
		func() error { return load(serve, q) },
		func() error { return load(echo.LocalAddr().String(), q) })
	if err != nil {
		return err
	}
	rate := func(d time.Duration) float64 { return asked / d.Seconds() }
	b.add(row{
		what: "DNS answers a second", figure: fmt.Sprintf("%.0f", rate(t[0])), other: fmt.Sprintf("UDP echo %.0f", rate(t[1])), ratio: rate(t[0]) / rate(t[1]),
		target: fmt.Sprintf(">= %d", minAnswers), met: rate(t[0]) >= minAnswers,
	})
	return nil
}

// dnsServer starts makeitso's DNS server with a thousand records; stop ends it.
func (b *bench) dnsServer(ctx context.Context) (address string, stop func() error, err error) {
	port, err := freePort()
	if err != nil {
		return "", nil, err
	}
	address = fmt.Sprintf("127.0.0.1:%d", port)
	records := []map[string]any{}
	for i := range thousand {
		records = append(records, map[string]any{"zone": "Z1", "name": fmt.Sprintf("host-%d.example.com.", i), "type": "A", "ttl": 60, "values": []string{"192.0.2.1"}})
	}
	records[0]["name"] = "www.example.com."
	text, err := json.Marshal(map[string]any{
		"port": port, "records": records,
		"zones": []map[string]any{{"id": "Z1", "name": "example.com.", "servers": []string{"ns-1.shop.localhost."}}},
	})
	if err != nil {
		return "", nil, err
	}
	file := filepath.Join(b.folder, "zones.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return "", nil, err
	}
	running, err := begin(ctx, exec.CommandContext(ctx, b.program, "internal", "dns", file),
		func() error { return connects("tcp4", address) })
	if err != nil {
		return "", nil, err
	}
	return address, running.stop, nil
}

// question is a query for the address of a name, without its number.
func question(name string) []byte {
	q := []byte{0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	for label := range strings.SplitSeq(name, ".") {
		q = append(append(q, byte(len(label))), label...)
	}
	return append(q, 0, 0, 1, 0, 1)
}

// sendBack sends every message back until the socket is closed.
func sendBack(socket net.PacketConn) {
	message := make([]byte, 512)
	for {
		n, from, err := socket.ReadFrom(message)
		if err != nil {
			return
		}
		if _, err := socket.WriteTo(message[:n], from); err != nil {
			return
		}
	}
}

// load asks the questions of one round and wants an answer to each.
func load(address string, q []byte) error {
	failures := make([]error, askers)
	var asking sync.WaitGroup
	for i := range askers {
		asking.Go(func() { failures[i] = askAll(address, bytes.Clone(q), asked/askers) })
	}
	asking.Wait()
	return errors.Join(failures...)
}

// askAll asks n times, a few questions being under way.
func askAll(address string, q []byte, n int) (err error) {
	conn, err := net.Dial("udp4", address)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	answer := make([]byte, 512)
	for sent, got := 0, 0; got < n; {
		for ; sent < min(got+underWay, n); sent++ {
			q[0], q[1] = byte(sent>>8), byte(sent)
			if _, err := conn.Write(q); err != nil {
				return err
			}
		}
		size, err := conn.Read(answer)
		if err != nil {
			return fmt.Errorf("answer %d of %d: %w", got, n, err)
		}
		const codes = 0x0f
		if size < len(q) || answer[3]&codes != 0 {
			return fmt.Errorf("answer %d of %d is % x", got, n, answer[:size])
		}
		got++
	}
	return nil
}
