package repository

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"makeitso/internal/fault"
	"makeitso/internal/statefile"
)

// User is the name that a server's password belongs to, as with ECR.
const User = "AWS"

// Server is a process that serves repositories on loopback.
type Server struct {
	Port     int    `json:"port"`
	Password string `json:"password"`
}

// NewServer gives a server with a new password, and no port yet.
func NewServer() Server { return Server{Password: rand.Text() + rand.Text()} }

// Address is where the server listens. docker speaks HTTP with it, as with
// every registry on loopback.
func (s Server) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)) }

// settings are what the process must know. The password is not among them.
type settings struct {
	Folder      string `json:"folder"`
	Listen      string `json:"listen"`
	Account     string `json:"account"`
	PasswordSum string `json:"passwordSum"`
}

// Prepare writes the file that Main is to be called with.
func (s Server) Prepare(file string, images *Store) error {
	return statefile.Write(file, settings{images.dir, s.Address(), images.account, SumOf(s.Password)})
}

// lastRequests is how long requests that are under way may take when the server
// ends.
const lastRequests = 5 * time.Second

// Main is the hidden command "ecr": the server of one environment's
// repositories. args is the file with its settings. It returns when it is asked
// to end.
func Main(args []string) error {
	if len(args) != 1 {
		return fault.New(fault.Invalid, "this command is run by makeitso itself, with a file of settings")
	}
	var c settings
	if err := statefile.Read(args[0], &c); err != nil {
		return fmt.Errorf("read the settings of the image registry: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	images := Open(c.Folder, c.Account)
	if err := images.Sweep(); err != nil {
		return fmt.Errorf("remove what broken pushes have left: %w", err)
	}
	report := func(err error) { fmt.Fprintln(os.Stderr, time.Now().UTC().Format(time.RFC3339), err) }
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "listen on %s", c.Listen)
	}
	var expiring sync.WaitGroup
	defer expiring.Wait()
	expiring.Go(func() { images.expireHourly(ctx, report) })
	server := &http.Server{Handler: images.Handler(c.PasswordSum, report), ReadHeaderTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		stop()
		return fmt.Errorf("serve images: %w", err)
	case <-ctx.Done():
	}
	// What takes longer is cut off; a push can go on where it was.
	ending, cancel := context.WithTimeout(context.Background(), lastRequests)
	defer cancel()
	if server.Shutdown(ending) != nil {
		err = server.Close()
	}
	<-served
	return err
}

// expireHourly removes what expires, now and every hour until ctx ends.
func (s *Store) expireHourly(ctx context.Context, report func(error)) {
	hourly := time.NewTicker(time.Hour)
	defer hourly.Stop()
	for {
		if err := s.Expire(time.Now()); err != nil {
			report(err)
		}
		select {
		case <-hourly.C:
		case <-ctx.Done():
			return
		}
	}
}
