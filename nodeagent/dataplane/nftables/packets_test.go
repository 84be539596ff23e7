package nftables

import (
	"testing"

	"github.com/manul-net/manul/nodeagent/fold"
	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/netns"
	"github.com/manul-net/manul/test/packets"
)

// TestPackets is what every driver must do to packets.
func TestPackets(t *testing.T) { packets.Run(t, subject()) }

// TestPacketsThroughFolds is the same where all that can be folded is.
func TestPacketsThroughFolds(t *testing.T) {
	s := subject()
	s.Folds = true
	s.Open = func(testing.TB) (packets.Driver, error) {
		return New(Options{WorkloadPrefix: packets.WorkloadPrefix, Fold: fold.EverythingFolds()})
	}
	packets.RunWorkloads(t, s)
}

func subject() packets.Subject {
	return packets.Subject{
		Open:    func(testing.TB) (packets.Driver, error) { return New(Options{WorkloadPrefix: packets.WorkloadPrefix}) },
		Dump:    func(t testing.TB, ns *netns.NS) []string { return dump(t, ns, false) },
		Handles: func(t testing.TB, ns *netns.NS) []string { return dump(t, ns, true) },
		Settle:  settle,
		Foreign: "nft",
	}
}

// settle: when the last endpoint that needs them goes, IPv6 rules stay until everything is compared.
func settle(d packets.Driver, desired *tables.Policy) bool {
	driver, ok := d.(*Driver)
	if !ok || driver.state == nil || !driver.state.inUse.v6 {
		return false
	}
	if needsIPv6(desired) {
		return false
	}
	d.Resync()
	return true
}
