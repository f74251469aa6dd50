// Command makeitso takes a repository that describes an application and makes
// it so. The program itself is cli.Main.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"makeitso/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.Getwd()
	if err != nil {
		fmt.Fprintln(os.Stderr, "makeitso: find the working folder:", err)
		os.Exit(1)
	}
	os.Exit(cli.Main(ctx, os.Args, cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Dir: dir, Terminal: cli.IsTerminal(os.Stdout)}))
}
