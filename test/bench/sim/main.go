// Command sim runs the operator's compiler and stream against thousands of node agents without kernels, and prints how long changes take
// to reach them, how many bytes they cost, and how much memory the operator holds.
//
// It is three programs in processes of their own, so that the operator's memory can be told apart: the operator (compiler, pump, board and
// server, as in the product); the agents, which speak the real stream, gRPC over TLS on the loopback interface; and this one, which makes up
// the cluster and changes it. It stands for the API server too: it feeds the operator what watches would bring, as JSON, and takes what
// the leader writes and what agents say. There is no etcd, no admission and no TokenReview: with 5,000 nodes on one machine these would be
// the limit. A sample of the nodes runs the product's own source of news, and what these have in their tables is compared with
// what the users' objects say (test/oracle).
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/manul-net/manul/test/bench/clusters"
)

// options of a run.
type options struct {
	clusters.Shape

	// churn is how many pods change in a second, for duration.
	churn    float64
	duration time.Duration
	// restart is the share of the agents that begin anew, one after the other, in the middle of that.
	restart float64
	// leader: in the end another operator takes over under churn, and the first is killed.
	leader bool
	// sample is how many nodes are compared with the oracle.
	sample int
	// patience bounds the wait for each condition.
	patience time.Duration
	// profiles is the folder for profiles of the processor's time and of memory; none without one.
	profiles string
}

func main() {
	if isChild() {
		os.Exit(child())
	}
	var o options
	flag.IntVar(&o.Nodes, "nodes", 5_000, "nodes of the cluster")
	flag.IntVar(&o.Pods, "pods", 150_000, "pods of the cluster")
	flag.IntVar(&o.Policies, "policies", 10_000, "policies of the cluster")
	flag.IntVar(&o.Namespaces, "namespaces", 500, "namespaces of the cluster")
	flag.Uint64Var(&o.Seed, "seed", 1, "decides which pods change, and which connections are asked about")
	flag.Float64Var(&o.churn, "churn", 100, "pods that change in a second: some get another label, some go and others come for them")
	flag.DurationVar(&o.duration, "duration", 10*time.Minute, "how long pods change")
	flag.Float64Var(&o.restart, "restart", 0.1, "share of the agents that begin anew, one after the other, in the middle of that")
	flag.BoolVar(&o.leader, "leader-change", true, "in the end another operator takes over under churn, and the first is killed")
	flag.IntVar(&o.sample, "sample", 20, "nodes whose state is compared with the oracle")
	flag.DurationVar(&o.patience, "patience", 10*time.Minute, "how long to wait for each condition")
	flag.StringVar(&o.profiles, "profiles", "", "folder for profiles of operator and agents, while agents join and while pods change: the processor's time, and what is held")
	sizes := flag.String("curve", "", "numbers of nodes, 500,1000,2000: one run of each, with 30 pods and 2 policies for each node and a namespace for 10, and a table over them")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := begin(ctx, o, *sizes)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "sim:", err)
		os.Exit(1)
	}
}

// begin runs one size or a curve.
func begin(ctx context.Context, o options, sizes string) error {
	if sizes == "" {
		_, err := run(ctx, &o, os.Stdout)
		return err
	}
	var all []int
	for text := range strings.SplitSeq(sizes, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return fmt.Errorf("-curve %q: %q is no number of nodes: want, for example, 500,1000,2000", sizes, text)
		}
		all = append(all, n)
	}
	return curve(ctx, o, all, os.Stdout)
}
