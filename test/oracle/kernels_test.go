package oracle_test

import (
	"flag"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/manul-net/manul/nodeagent/dataplane/iptables"
	"github.com/manul-net/manul/nodeagent/dataplane/nftables"
	"github.com/manul-net/manul/nodeagent/fold"
	"github.com/manul-net/manul/test/oracle"
	"github.com/manul-net/manul/test/oracle/kernels"
	"github.com/manul-net/manul/test/packets"
)

var inKernels = flag.Int("oracle.kernels", 15, "how many of the random clusters of a run are put into kernels") //nolint:gochecknoglobals // a flag

// dataplanes are all of them, by name, and once more with everything folded: a few policies are not, by default.
func dataplanes() map[string]packets.Subject {
	out := map[string]packets.Subject{"nftables": {
		Open: func(testing.TB) (packets.Driver, error) {
			return nftables.New(nftables.Options{WorkloadPrefix: packets.WorkloadPrefix})
		},
		Foreign: "nft",
	}, "nftables-folded": {
		Open: func(testing.TB) (packets.Driver, error) {
			return nftables.New(nftables.Options{WorkloadPrefix: packets.WorkloadPrefix, Fold: fold.EverythingFolds()})
		},
		Foreign: "nft",
		Folds:   true,
	}}
	for _, variant := range []iptables.Variant{iptables.NFT, iptables.Legacy} {
		for suffix, limits := range map[string]fold.Limits{"": fold.DefaultLimits(), "-folded": fold.EverythingFolds()} {
			out["iptables-"+string(variant)+suffix] = packets.Subject{
				Open: func(t testing.TB) (packets.Driver, error) {
					return iptables.New(t.Context(), iptables.Options{WorkloadPrefix: packets.WorkloadPrefix, Variant: variant, Fold: limits, LookEvery: time.Hour, Log: slog.New(slog.DiscardHandler)})
				},
				Foreign: "iptables-" + string(variant),
				Folds:   suffix != "",
			}
		}
	}
	return out
}

// openKernels makes a network on every dataplane.
func openKernels(t *testing.T, network *oracle.Network) kernels.Clusters {
	t.Helper()
	outside := map[string][]netip.Addr{"eth0": {front(true), front(false)}, "eth1": {back(true), back(false)}}
	var out kernels.Clusters
	for name, subject := range dataplanes() {
		out = append(out, kernels.New(t, name, subject, network, outside))
	}
	return out
}

// everyPlace is the network of random worlds with a pod in every place.
func everyPlace() *oracle.Network {
	n := &oracle.Network{Interfaces: interfaces()}
	for i := range places {
		n.Pods = append(n.Pods, oracle.Pod{
			ID: podName(i), Node: nodes()[i%2], Addresses: []netip.Addr{netip.MustParseAddr(podAddress(i, true)), netip.MustParseAddr(podAddress(i, false))},
		})
	}
	return n
}

// become makes the kernels those of a world.
func become(all kernels.Clusters, w *oracle.World) error {
	r, err := compile(w)
	if err != nil {
		return err
	}
	return all.Become(w.Network(), func() (oracle.Tables, error) { return r.Tables(w.Network()) })
}

// askKernels is how often a cluster that fails in a kernel is made smaller.
const askKernels = 400

func TestPacketsGoWhereTheUsersObjectsSay(t *testing.T) {
	all, covered := openKernels(t, everyPlace()), newCoverage()
	var last *failure
	defer func() { last.explain(t) }()
	rapid.Check(t, func(t *rapid.T) {
		if covered.worlds >= *inKernels && last == nil {
			return
		}
		w := drawWorld(t)
		flows := kernels.Showable(flows(w, upTo(t, 100, "turn")), w.Network(), w.Users())
		if err := become(all, w); err != nil {
			t.Fatal(err)
		}
		differences, err := all.Send(w.Network(), flows)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range differences {
			last = &failure{world: w, flow: d.Flow.Flow, most: askKernels, differs: differsIn(all)}
			t.Fatal(d)
		}
		covered.world(w)
		for _, f := range flows {
			covered.flow(f.Flow, f.Want)
		}
	})
	covered.report(t)
}

// differsIn is what differs between the users' objects and kernels.
func differsIn(all kernels.Clusters) func(*oracle.World, oracle.Flow) string {
	return func(w *oracle.World, f oracle.Flow) string {
		if become(all, w) != nil {
			return ""
		}
		differences, err := all.Send(w.Network(), kernels.Showable([]oracle.Flow{f}, w.Network(), w.Users()))
		if err != nil || len(differences) == 0 {
			return ""
		}
		return differences[0].String()
	}
}
