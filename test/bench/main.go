// Command bench does, inside a host of the local cluster, what "make bench" measures, and prints when it did it:
//
//	bench policies -n N      as an application team does: a policy comes and goes
//	bench load -n N          N policies, at most a hundred of which select the server
//	bench labels -n N        a peer gains a label that a policy allows, and loses it
//	bench pods -n N          pods are made, one after the other, until each is Running, and removed
//	bench batch -n N         N pods are made at once, until all are Running, and removed
//	bench arrivals           tells when a pod's address comes into this host's routes or sets, until it is ended
//	bench members -n N       N addresses in the sets that a policy of the server names, and 30 pods on its node
//	bench routes -n N        a service gets an external IP, and loses it
//	bench endpoints -n N     the endpoint of a service becomes ready, and unready
//	bench cni -n N           the CNI plugin's ADD and DEL, for pods of a node without kubelet
//
// Each line that it prints is a JSON object with a name and times in nanoseconds since 1970, or lengths in nanoseconds.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
)

// namespace holds all that the benchmarks make.
const namespace = "bench"

// bench is what every benchmark works with.
type bench struct {
	client client.WithWatch
	out    *json.Encoder
	n      int
	node   string
}

// moment is when something was answered by the API server.
type moment struct {
	Name string `json:"name"`
	At   int64  `json:"at"`
}

// length is how long something took.
type length struct {
	Name string `json:"name"`
	Took int64  `json:"took"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	names := slices.Sorted(maps.Keys(benchmarks()))
	if len(args) == 0 {
		return errors.New("usage: bench " + strings.Join(names, "|") + " [-n N] [-node NODE] [-kubeconfig FILE]")
	}
	do, known := benchmarks()[args[0]]
	if !known {
		return fmt.Errorf("no benchmark is called %q: there are %s", args[0], strings.Join(names, ", "))
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	n := flags.Int("n", 20, "how many times")
	node := flags.String("node", "worker1", "the node that pods are bound to")
	kubeconfig := flags.String("kubeconfig", os.Getenv("KUBECONFIG"), "how to reach the API server")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v3.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return fmt.Errorf("registering types: %w", err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return fmt.Errorf("reading %s: %w", *kubeconfig, err)
	}
	config.QPS = -1
	c, err := client.NewWithWatch(config, client.Options{Scheme: scheme})
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	b := &bench{client: c, out: json.NewEncoder(os.Stdout), n: *n, node: *node}
	return do(b, ctx)
}

// benchmarks by name.
func benchmarks() map[string]func(*bench, context.Context) error {
	return map[string]func(*bench, context.Context) error{
		"policies": (*bench).policies, "load": (*bench).load, "labels": (*bench).labels, "pods": (*bench).pods, "batch": (*bench).batch,
		"arrivals": (*bench).arrivals, "members": (*bench).members, "routes": (*bench).routes, "endpoints": (*bench).endpoints, "cni": (*bench).cni,
	}
}

// answered prints that the API server answered just now.
func (b *bench) answered(name string) error {
	return b.out.Encode(moment{Name: name, At: time.Now().UnixNano()})
}

// pause spaces changes out, so that each is measured alone.
func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(150 * time.Millisecond):
	}
}
