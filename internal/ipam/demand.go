package ipam

import (
	"cmp"
	"slices"
)

// minFree is how many free addresses of a family a node has at least before it leases a further block.
const minFree = 8

// demand is a number of endpoints that can take their addresses from any of some pools.
type demand struct {
	family int
	// own are the endpoints that need an address from just these pools, asked those that need one from some of them.
	own   uint64
	asked []demand
	// pools are enabled, and the node may use them.
	pools []Pool
}

// demands of a node: one for each family, then one for each list of pools that is asked for. Who asks for some of a
// demand's pools takes from its capacity too.
func (p *planner) demands(n Node) []demand {
	demands := []demand{{family: 0, own: count(n.Endpoints4)}, {family: 1, own: count(n.Endpoints6)}}
	for _, pool := range p.pools {
		if f := family(pool.CIDR); pool.mayServe(n) {
			demands[f].pools = append(demands[f].pools, pool)
		}
	}
	var asked []demand
	for _, ask := range n.Asked {
		if ask.Endpoints < 0 || len(ask.Pools) == 0 {
			continue
		}
		d := demand{family: family(ask.Pools[0])}
		for _, pool := range p.pools {
			if slices.Contains(ask.Pools, pool.CIDR) && !pool.Disabled {
				d.pools = append(d.pools, pool)
			}
		}
		at := slices.IndexFunc(asked, func(o demand) bool { return o.family == d.family && slices.EqualFunc(o.pools, d.pools, samePool) })
		if at < 0 {
			at, asked = len(asked), append(asked, d)
		}
		asked[at].own += count(ask.Endpoints)
	}
	slices.SortFunc(asked, func(a, b demand) int {
		return cmp.Or(cmp.Compare(a.family, b.family), slices.CompareFunc(a.pools, b.pools, func(a, b Pool) int { return a.CIDR.Compare(b.CIDR) }))
	})
	families := len(demands)
	demands = append(demands, asked...)
	for i := range demands {
		for j, ask := range asked {
			if i != families+j && len(ask.pools) > 0 && ask.family == demands[i].family && demands[i].holds(ask.pools) {
				demands[i].asked = append(demands[i].asked, ask)
			}
		}
	}
	return demands
}

func samePool(a, b Pool) bool { return a.CIDR == b.CIDR }

// holds tells whether all of some pools are among the demand's.
func (d demand) holds(pools []Pool) bool {
	for _, pool := range pools {
		if !slices.ContainsFunc(d.pools, func(o Pool) bool { return samePool(o, pool) }) {
			return false
		}
	}
	return true
}

func count(n int) uint64 { return uint64(max(n, 0)) }

// endpoints is how many addresses of a demand's pools the node's endpoints can take. What those lack who ask for some of these pools alone, the
// others are no help for.
func (n *nodeState) endpoints(d demand) uint64 {
	sum := d.own
	for _, ask := range d.asked {
		sum += min(ask.own, n.capacityFor(ask))
	}
	return sum
}

// margin is how many addresses are to be free, so that blocks are leased ahead of need.
func (d demand) margin() uint64 {
	margin := uint64(minFree)
	for _, pool := range d.pools {
		margin = max(margin, power(pool.CIDR.Addr().BitLen()-pool.BlockBits)/4)
	}
	return margin
}
