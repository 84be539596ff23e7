package leases

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/ipam"
)

// decision is what to write.
type decision struct {
	// lease are blocks to create, each with its affinity.
	lease []ipam.Lease
	// release are blocks of nodes that are gone.
	release []ipam.Lease
	// confirm are leases whose affinity is missing; forget are affinities without a lease, by name.
	confirm []ipam.Lease
	forget  []string
	// findings about pools, by name.
	findings map[string]finding
}

// decide plans with what the API has. It changes nothing that is right.
func decide(s *state) decision {
	in, findings := s.input()
	plan := ipam.MakePlan(in)
	d := decision{findings: findings}
	if s.settings.AutoAllocateBlocks {
		d.lease = plan.Lease
	}
	for _, lease := range plan.Release {
		// As long as pods are bound to a node that is gone, their addresses may be in use; a block without a node is not ours.
		if lease.Node != "" && !s.bound[lease.Node] {
			d.release = append(d.release, lease)
		}
	}
	d.confirm, d.forget = affinities(in.Leases, d.release, s.affinities)
	exhausted(s.pools, plan.Short, findings)
	return d
}

// affinities compares the leases that stay with the affinities that there are.
func affinities(leases, release []ipam.Lease, have []v3.BlockAffinity) (confirm []ipam.Lease, forget []string) {
	want := map[string]ipam.Lease{}
	for _, lease := range leases {
		if lease.Node != "" && !slices.Contains(release, lease) {
			want[affinityName(lease)] = lease
		}
	}
	exists := map[string]bool{}
	for i := range have {
		exists[have[i].Name] = true
		if _, ok := want[have[i].Name]; !ok && (have[i].Spec.Type == "" || have[i].Spec.Type == typeHost) {
			forget = append(forget, have[i].Name)
		}
	}
	for _, lease := range leases {
		if name := affinityName(lease); !exists[name] && want[name] == lease && lease.Node != "" {
			confirm = append(confirm, lease)
		}
	}
	slices.Sort(forget)
	return confirm, forget
}

// exhausted turns shortages into findings on the pools that should have met them.
func exhausted(pools []v3.IPPool, short []ipam.Shortage, findings map[string]finding) {
	lacking := map[netip.Prefix][]ipam.Shortage{}
	for _, s := range short {
		if s.Reason != ipam.PoolsFull {
			continue
		}
		for _, cidr := range s.Pools {
			lacking[cidr] = append(lacking[cidr], s)
		}
	}
	for i := range pools {
		cidr, err := netip.ParsePrefix(pools[i].Spec.CIDR)
		if err != nil || !findings[pools[i].Name].allocatable || len(lacking[cidr]) == 0 {
			continue
		}
		findings[pools[i].Name] = finding{reason: ReasonExhausted, message: fmt.Sprintf(
			"every block of %s is leased, and %s: add a pool", cidr, describe(lacking[cidr]))}
	}
}

// maxDescribed is how many nodes a message names.
const maxDescribed = 5

func describe(short []ipam.Shortage) string {
	var parts []string
	for i, s := range short {
		if i == maxDescribed {
			parts = append(parts, fmt.Sprintf("%d more nodes lack addresses", len(short)-i))
			break
		}
		parts = append(parts, fmt.Sprintf("node %s lacks %d addresses", s.Node, s.Missing))
	}
	return strings.Join(parts, ", ")
}
