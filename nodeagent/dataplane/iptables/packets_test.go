package iptables

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/manul-net/manul/nodeagent/fold"
	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/netns"
	"github.com/manul-net/manul/test/packets"
)

// TestPackets is what every driver must do to packets.
func TestPackets(t *testing.T) {
	eachVariant(t, func(t *testing.T, variant Variant) { packets.Run(t, subject(variant)) })
}

// TestPacketsThroughFolds is the same where all that can be folded is.
func TestPacketsThroughFolds(t *testing.T) {
	eachVariant(t, func(t *testing.T, variant Variant) { packets.Run(t, foldingSubject(variant)) })
}

// foldingSubject folds whatever can be.
func foldingSubject(variant Variant) packets.Subject {
	s := subject(variant)
	s.Folds = true
	s.Open = func(t testing.TB) (packets.Driver, error) { return open(t, variant, fold.EverythingFolds()) }
	return s
}

// eachVariant runs a test for both variants of iptables.
func eachVariant(t *testing.T, test func(*testing.T, Variant)) {
	t.Helper()
	for _, variant := range []Variant{NFT, Legacy} {
		t.Run(string(variant), func(t *testing.T) {
			if _, err := programsOf(t.Context(), variant); err != nil {
				t.Skipf("kernel test: %v", err)
			}
			test(t, variant)
		})
	}
}

func subject(variant Variant) packets.Subject {
	return packets.Subject{
		Open: func(t testing.TB) (packets.Driver, error) { return open(t, variant, fold.Limits{}) },
		Dump: func(t testing.TB, ns *netns.NS) []string {
			return slices.DeleteFunc(dump(t, ns, variant), func(line string) bool { return !strings.Contains(line, "manul") })
		},
		Handles: func(t testing.TB, ns *netns.NS) []string { return handles(t, ns, variant) },
		Settle:  settle,
		Foreign: "iptables-" + string(variant),
	}
}

// open opens a driver that looks for changes only when a test says so.
func open(t testing.TB, variant Variant, limits fold.Limits) (*Driver, error) {
	t.Helper()
	return New(t.Context(), Options{WorkloadPrefix: packets.WorkloadPrefix, Variant: variant, Fold: limits, LookEvery: time.Hour, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
}

func openIn(t testing.TB, ns *netns.NS, variant Variant) *Driver {
	t.Helper()
	var d *Driver
	ns.Must("opening a driver", func() error {
		var err error
		d, err = open(t, variant, fold.Limits{})
		return err
	})
	return d
}

// settle: the kernel lets go of sets that nothing names any more only after a moment.
func settle(d packets.Driver, _ *tables.Policy) bool {
	driver, ok := d.(*Driver)
	return ok && driver.state != nil && len(driver.state.leftovers) > 0
}

// node is a node with a variant.
type node struct {
	*packets.Node
	variant Variant
}

func newNode(t testing.TB, variant Variant) *node {
	t.Helper()
	return &node{packets.NewNode(t, subject(variant)), variant}
}

func (n *node) driver() *Driver {
	d, _ := n.Driver.(*Driver)
	return d
}

// shell runs a command in the node, with iptables and ip6tables of the variant.
func (n *node) shell(command string) string {
	aliases := fmt.Sprintf("iptables() { iptables-%s -w 30 \"$@\"; }; ip6tables() { ip6tables-%s -w 30 \"$@\"; }; ", n.variant, n.variant)
	return n.Shell(aliases + command)
}

// handles is the dump and, for the nft variant, the handles of rules, which a rewritten rule does not keep.
func handles(t testing.TB, ns *netns.NS, variant Variant) []string {
	t.Helper()
	lines := dump(t, ns, variant)
	if variant == NFT {
		for line := range strings.Lines(output(t, ns, "nft", "-a", "-n", "list", "ruleset")) {
			if !strings.Contains(line, "counter") && !strings.Contains(line, "timeout") {
				lines = append(lines, line)
			}
		}
	}
	return lines
}
