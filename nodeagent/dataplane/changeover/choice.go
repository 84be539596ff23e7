package changeover

import (
	"context"
	"time"

	"github.com/manul-net/manul/nodeagent/pace"
	"github.com/manul-net/manul/nodeagent/tables"
)

// choose decides which dataplane is to be used: the fixed one, else that of the settings, else that of kube-proxy, as it was
// last seen, else nftables.
func (d *Driver) choose(ctx context.Context, setting tables.Dataplane) tables.Dataplane {
	fixed := d.options.Fixed
	if fixed == "" {
		fixed = setting
	}
	wasAuto := d.auto.Swap(fixed == "")
	if fixed != "" {
		return fixed
	}
	if !wasAuto {
		d.detect(ctx) // nobody has followed kube-proxy up to now
	}
	if seen := d.seen(); seen != "" {
		return seen
	}
	return tables.NFTables
}

// follow asks now and then whether kube-proxy has changed, while that matters. Asking may cost the more, the more services there are.
func (d *Driver) follow(ctx context.Context) {
	again := time.NewTimer(d.options.DetectEvery)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		}
		began := time.Now()
		if d.auto.Load() && d.detect(ctx) {
			d.options.Log.Info("kube-proxy has changed its mode", "dataplane", d.seen())
			d.tell()
		}
		again.Reset(min(pace.Next(d.options.DetectEvery, time.Since(began)), max(d.options.DetectEvery, detectAtLeastEvery)))
	}
}

// detect tells whether kube-proxy has another dataplane than before. While it tells nothing, it has not changed: it removes
// what it made in one mode before it makes anything in the other.
func (d *Driver) detect(ctx context.Context) bool {
	now := d.options.Detect(ctx)
	if now == "" {
		return false
	}
	return d.detected.Swap(now) != now
}

func (d *Driver) seen() tables.Dataplane { return d.detected.Load().(tables.Dataplane) } //nolint:forcetypeassert // stored in New
