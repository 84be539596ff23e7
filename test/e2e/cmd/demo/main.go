// Command demo brings up a local cluster, installs Manul on it and walks through the labs. The cluster stays.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/manul-net/manul/test/e2e/lab"
	"github.com/manul-net/manul/test/e2e/walkthrough"
)

func main() {
	project := flag.String("project", ".", "the project's folder")
	name := flag.String("name", "demo", "the cluster's name")
	proxy := flag.String("proxy", "nftables", "kube-proxy's mode: nftables or iptables")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *project, *name, *proxy)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, project, name, proxy string) error {
	start := time.Now()
	project, err := filepath.Abs(project)
	if err != nil {
		return fmt.Errorf("finding the project: %w", err)
	}
	images, err := lab.Images(project)
	if err != nil {
		return err
	}
	c := &lab.Cluster{Project: project, Name: name, Log: os.Stdout}
	// The walk-through begins with a cluster without a network, so one that is left from before goes first.
	if err := c.Down(ctx); err != nil {
		return err
	}
	if err := c.Up(ctx, lab.Options{Workers: 2, Proxy: proxy, CNI: "none", Images: images}); err != nil {
		return err
	}
	shims, err := c.Shims()
	if err != nil {
		return err
	}
	up := time.Since(start)
	r := &walkthrough.Runner{
		Out: os.Stdout, Dir: project, Color: terminal(os.Stdout),
		Env: []string{"PATH=" + shims + ":" + os.Getenv("PATH")},
	}
	for _, l := range walkthrough.Labs() {
		if err := r.Lab(ctx, l); err != nil {
			return errors.Join(err, fmt.Errorf("the cluster is left as it is: export PATH=%s:$PATH, and look around; make demo-down removes it", shims))
		}
	}
	fmt.Printf("\n%d steps showed what they should. Cluster %.0f s, labs %.0f s.\nThe cluster is yours: export PATH=%s:$PATH\nmake demo-down removes it.\n",
		r.Steps(), up.Seconds(), (time.Since(start) - up).Seconds(), shims)
	return nil
}

func terminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
