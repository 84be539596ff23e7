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
	"regexp"
	"syscall"
	"time"

	"github.com/manul-net/manul/test/e2e/lab"
	"github.com/manul-net/manul/test/e2e/walkthrough"
)

// options of a demonstration.
type options struct {
	project, name, proxy string
	// labs are those whose names match, on a cluster that is up; nil: all of them, on a new cluster.
	labs *regexp.Regexp
}

func main() {
	var o options
	flag.StringVar(&o.project, "project", ".", "the project's folder")
	flag.StringVar(&o.name, "name", "demo", "the cluster's name")
	flag.StringVar(&o.proxy, "proxy", "nftables", "kube-proxy's mode: nftables or iptables")
	flag.Func("labs", "walk through the labs whose names match this pattern, on a cluster that is up", func(pattern string) (err error) {
		o.labs, err = regexp.Compile(pattern)
		return err
	})
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	start := time.Now()
	project, err := filepath.Abs(o.project)
	if err != nil {
		return fmt.Errorf("finding the project: %w", err)
	}
	c := &lab.Cluster{Project: project, Name: o.name, Log: os.Stdout}
	if o.labs == nil {
		if err := renew(ctx, c, o.proxy); err != nil {
			return err
		}
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
	for _, l := range walkthrough.Labs(o.proxy) {
		if o.labs != nil && !o.labs.MatchString(l.Name) {
			continue
		}
		if err := r.Lab(ctx, l); err != nil {
			return errors.Join(err, fmt.Errorf("the cluster is left as it is: export PATH=%s:$PATH, and look around; make demo-down removes it", shims))
		}
	}
	fmt.Printf("\n%d steps showed what they should. Cluster %.0f s, labs %.0f s.\nThe cluster is yours: export PATH=%s:$PATH\nmake demo-down removes it.\n",
		r.Steps(), up.Seconds(), (time.Since(start) - up).Seconds(), shims)
	return nil
}

// renew brings up a cluster without a network, with which the walk-through begins: one that is left from before goes first.
func renew(ctx context.Context, c *lab.Cluster, proxy string) error {
	images, err := lab.Images(c.Project)
	if err != nil {
		return err
	}
	if err := c.Down(ctx); err != nil {
		return err
	}
	return c.Up(ctx, lab.Options{Workers: 2, Proxy: proxy, CNI: "none", Images: images})
}

func terminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
