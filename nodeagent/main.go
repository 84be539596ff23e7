// Command manul-node is the node agent.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/manul-net/manul/nodeagent/daemon"
)

// version of the release, set by the linker.
var version = "dev"

func main() {
	if err := daemon.Command(version).ExecuteContext(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "manul-node:", err)
		os.Exit(1)
	}
}
