package leases

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/ipam"
)

// decision is what to write.
type decision struct {
	// lease are blocks to create, each with its affinity.
	lease []ipam.Lease
	// change are blocks in their next form.
	change []ipam.Holding
	// release are blocks of nodes that are gone, and withdrawn ones that their nodes have let go of.
	release []ipam.Lease
	// confirm are leases whose affinity is missing; forget are affinities without a lease, by name.
	confirm []ipam.Lease
	forget  []string
	// findings about pools, by name.
	findings map[string]finding
	// again is after how long there is more to do; 0: nothing will be by time alone.
	again time.Duration
}

// decide plans with what the API has. It changes nothing that is right.
func decide(s *state) decision {
	in, findings := s.input()
	d := decision{findings: findings}
	resting, rested := s.resting()
	maps.Copy(resting, in.Kept)
	in.Kept = resting

	// First comes what nodes have agreed to, then the plan.
	before, after := s.holdings(), map[netip.Prefix]ipam.Holding{}
	reports := s.reports()
	free := map[netip.Prefix]bool{}
	for block, h := range before {
		after[block], free[block] = h.Settle(reports)
	}
	in.Withdrawn, in.Loans = map[netip.Prefix]bool{}, map[netip.Prefix][]ipam.Loan{}
	for i, lease := range in.Leases {
		if free[lease.Block] && lease.Node != "" {
			d.release = append(d.release, lease)
			in.Leases[i].Node = "" // nobody's until the object is gone
		}
		in.Withdrawn[lease.Block], in.Loans[lease.Block] = after[lease.Block].Withdrawn, after[lease.Block].Loans
	}
	plan := ipam.MakePlan(in)
	exhausted(s.pools, plan.Short, in, findings)
	d.again = s.delay(&plan)
	if rested > 0 && (d.again == 0 || rested < d.again) {
		d.again = rested
	}
	d.lease = plan.Lease
	for _, lease := range plan.Release {
		if lease.Node != "" { // otherwise it is not ours
			d.release = append(d.release, lease)
		}
	}
	maps.Copy(after, ipam.Carry(plan, after))
	var leases []ipam.Lease
	for _, lease := range in.Leases {
		if h, ok := after[lease.Block]; ok && lease.Node != "" {
			lease.Node = h.Node
		}
		leases = append(leases, lease)
	}
	for block, h := range after {
		if !h.Equal(before[block]) && !slices.ContainsFunc(d.release, func(l ipam.Lease) bool { return l.Block == block }) {
			d.change = append(d.change, h)
		}
	}
	slices.SortFunc(d.change, func(a, b ipam.Holding) int { return a.Block.Compare(b.Block) })
	d.confirm, d.forget = affinities(leases, d.release, s.affinities)
	return d
}

// patience is how long something must have been dispensable before it goes back: pods that are replaced come right away.
const patience = 30 * time.Second

// delay takes out of a plan what goes back without anybody being in need of it, until it has been dispensable for a while,
// and tells when to look again.
func (s *state) delay(plan *ipam.Plan) time.Duration {
	short := map[netip.Prefix]bool{}
	for _, x := range plan.Short {
		for _, pool := range x.Pools {
			short[pool] = true
		}
	}
	again := time.Duration(0)
	idle := map[string]time.Time{}
	ripe := func(what string) bool {
		since, ok := s.idle[what]
		if !ok {
			since = s.now
		}
		idle[what] = since
		wait := patience - s.now.Sub(since)
		if wait > 0 && (again == 0 || wait < again) {
			again = wait
		}
		return wait <= 0
	}
	plan.Withdraw = slices.DeleteFunc(plan.Withdraw, func(l ipam.Lease) bool { return !short[l.Pool] && !ripe(l.Block.String()) })
	plan.Loans = slices.DeleteFunc(plan.Loans, func(l ipam.LoanStep) bool {
		needed := slices.ContainsFunc(slices.Collect(maps.Keys(short)), func(p netip.Prefix) bool { return p.Contains(l.Address) })
		return l.State == ipam.LoanRecalled && !needed && !ripe(l.Address.String())
	})
	s.idle = idle
	return again
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
func exhausted(pools []v3.IPPool, short []ipam.Shortage, in ipam.Input, findings map[string]finding) {
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
		fill := fmt.Sprintf("%d of %d addresses of %s are in use", used(in.Nodes, cidr), ipam.Size(cidr), cidr)
		why, remedy := "no node that answers can spare one", "add an IPPool, or delete pods"
		if in.Strict {
			why, remedy = "every block is leased and strictAffinity keeps nodes from borrowing", remedy+", or set strictAffinity: false in IPAMConfiguration default"
		}
		findings[pools[i].Name] = finding{reason: ReasonExhausted, message: fmt.Sprintf("%s, %s, and %s: %s", fill, why, describe(lacking[cidr]), remedy)}
	}
}

// used counts the addresses of a pool that pods have.
func used(nodes []ipam.Node, pool netip.Prefix) int {
	count := 0
	for _, n := range nodes {
		for _, addr := range n.Used {
			if pool.Contains(addr) {
				count++
			}
		}
	}
	return count
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
