// kubectl-manul is a plugin of kubectl: what each node has in effect, who has which address, and what BGP does and why.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/manul-net/manul/cmd/kubectl-manul/command"
)

// version is set when the program is linked: -ldflags "-X main.version=v0.1.0".
var version = "dev"

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := command.New(version).ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, command.ErrFound):
		return 1 // said already
	}
	fmt.Fprintln(os.Stderr, "error:", err)
	return 2
}
