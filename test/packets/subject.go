// Package packets holds what every driver of the policy dataplane must do to packets: tables, sentences and verdicts,
// tried with real packets in network namespaces of their own. Each driver's tests call Run; what a driver does in its
// own way it tests itself, with the same node and the same words.
package packets

import (
	"context"
	"testing"

	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/netns"
)

// WorkloadPrefix is what the names of workload interfaces begin with.
const WorkloadPrefix = "cali"

// Driver is what all drivers of the policy dataplane have in common.
type Driver interface {
	Apply(ctx context.Context, desired *tables.Policy) error
	Resync()
	Changed() <-chan struct{}
	Close() error
}

// Subject is a driver under test.
type Subject struct {
	// Open opens a driver for the network namespace of the calling thread, with WorkloadPrefix.
	Open func(t testing.TB) (Driver, error)
	// Dump is what the namespace holds of the driver's, line by line: the same for the same tables, whatever came before.
	// It is to be read by another program than the driver.
	Dump func(t testing.TB, ns *netns.NS) []string
	// Handles is Dump with what tells a rule that was left alone from one that was written anew.
	Handles func(t testing.TB, ns *netns.NS) []string
	// Settle tells whether the driver has put off something that belongs to the tables, which the next Apply brings. Nil:
	// never.
	Settle func(d Driver, desired *tables.Policy) bool
	// Folds: the driver folds all that it can, however little it is.
	Folds bool
	// Foreign is the program by which others write rules beside the driver's: "nft", "iptables-nft" or "iptables-legacy".
	Foreign string
}

// Run is the whole suite, each part a subtest.
func Run(t *testing.T, subject Subject) {
	t.Helper()
	RunWorkloads(t, subject)
	RunHosts(t, subject)
}

// part of the suite.
type part struct {
	name string
	test func(*testing.T, Subject)
}

func run(t *testing.T, subject Subject, parts []part) {
	t.Helper()
	for _, p := range parts {
		t.Run(p.name, func(t *testing.T) { p.test(t, subject) })
	}
}

// RunWorkloads is what there is about workloads.
func RunWorkloads(t *testing.T, subject Subject) {
	t.Helper()
	run(t, subject, []part{
		{"Rules", rules},
		{"Tiers", tiers},
		{"LongTiers", longTiers},
		{"EgressThenIngress", egressThenIngress},
		{"Connections", connections},
		{"UnknownEndpoints", unknownEndpoints},
		{"Spoofing", spoofing},
		{"Encapsulation", encapsulation},
		{"Encapsulated", encapsulated},
		{"TunnelPackets", tunnelPackets},
		{"EndpointToHost", endpointToHost},
		{"PeeringPorts", peeringPorts},
		{"NeighbourDiscovery", neighbourDiscovery},
		{"Masquerade", masquerade},
		{"Hairpin", hairpin},
		{"FloatingAddresses", floatingAddresses},
		{"Fragments", fragments},
		{"ICMPErrors", icmpErrors},
		{"Associations", associations},
		{"MembersComeAndGo", membersComeAndGo},
		{"OverlappingNets", overlappingNets},
		{"SetsChange", setsChange},
		{"MissingSet", missingSet},
		{"SetComesLate", setComesLate},
		{"Restart", restart},
		{"RestartAtSize", restartAtSize},
		{"ContextEnds", contextEnds},
		{"Atomicity", atomicity},
		{"AtomicSets", atomicSets},
		{"RandomStates", randomStates},
	})
}

// RunHosts is what there is about host endpoints, and what came with them.
func RunHosts(t *testing.T, subject Subject) {
	t.Helper()
	run(t, subject, []part{
		{"MidStream", midStream},
		{"EndedConnections", endedConnections},
		{"SourcePrefixes", sourcePrefixes},
		{"HostMatching", hostMatching},
		{"HostLocal", hostLocal},
		{"HostFailsafe", hostFailsafe},
		{"HostForward", hostForward},
		{"HostPreDNAT", hostPreDNAT},
		{"HostUntracked", hostUntracked},
		{"HostToHost", hostToHost},
		{"HostDiscovery", hostDiscovery},
		{"HostConnections", hostConnections},
		{"HostUntrackedFlows", hostUntrackedFlows},
		{"HostFailsafeConnections", hostFailsafeConnections},
		{"HostServices", hostServices},
		{"HostForwardedServices", hostForwardedServices},
		{"HostErrors", hostErrors},
		{"HostRestart", hostRestart},
		{"HostAtomicity", hostAtomicity},
	})
}
