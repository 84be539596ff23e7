package routing

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/manul-net/manul/api/v1alpha1"
)

// groupFrom is how many sessions that are alike make a group. Fewer are easier to read one by one.
const groupFrom = 16

// alike is what the sessions of one group have in common beside the fields of template.
type alike struct {
	peer, source, gateway, nextHop, filters string
	port, ttl, keepalive, restart, allowOwn int32
	localAS                                 int64
	passive, client                         bool
}

func alikeOf(s *v1alpha1.BGPSession) alike {
	peer, _, _ := strings.Cut(s.Name, "/")
	return alike{
		peer: peer, source: s.SourceAddress, gateway: s.Gateway, nextHop: s.NextHop, filters: strings.Join(s.Filters, " "),
		port: s.Port, ttl: s.TTLSecurity, keepalive: s.KeepaliveSeconds, restart: s.RestartSeconds, allowOwn: s.AllowOwnAS,
		localAS: s.LocalASNumber, passive: s.Passive, client: s.Client,
	}
}

func (a alike) compare(b alike) int {
	number := func(yes bool) int {
		if yes {
			return 1
		}
		return 0
	}
	return cmp.Or(
		cmp.Compare(a.peer, b.peer), cmp.Compare(a.source, b.source), cmp.Compare(a.gateway, b.gateway), cmp.Compare(a.port, b.port),
		cmp.Compare(a.localAS, b.localAS), cmp.Compare(number(a.passive), number(b.passive)), cmp.Compare(number(a.client), number(b.client)),
	)
}

// grouped takes the sessions with nodes that are alike out of a list into groups, so that a route reflector's plan does not exceed the
// size of a rendered object. The password is the BGPPeer's, as are all fields that alike does not name.
func grouped(sessions []v1alpha1.BGPSession) (rest []v1alpha1.BGPSession, groups []v1alpha1.BGPGroup) {
	if len(sessions) < groupFrom {
		return sessions, nil
	}
	members := map[alike][]*v1alpha1.BGPSession{}
	for i := range sessions {
		if s := &sessions[i]; s.Node != "" {
			members[alikeOf(s)] = append(members[alikeOf(s)], s)
		}
	}
	maps.DeleteFunc(members, func(_ alike, list []*v1alpha1.BGPSession) bool { return len(list) < groupFrom })
	for i := range sessions {
		if s := &sessions[i]; s.Node == "" || members[alikeOf(s)] == nil {
			rest = append(rest, *s)
		}
	}
	for _, a := range slices.SortedFunc(maps.Keys(members), alike.compare) {
		groups = append(groups, group(a.peer, members[a]))
	}
	return rest, groups
}

// group makes one of sessions that are alike.
func group(name string, list []*v1alpha1.BGPSession) v1alpha1.BGPGroup {
	out := v1alpha1.BGPGroup{Session: *list[0]}
	out.Session.Name, out.Session.Address, out.Session.Node = name, "", ""
	out.Session.ASNumber = mostFrequentAS(list)
	addresses := make(map[*v1alpha1.BGPSession]netip.Addr, len(list))
	for _, s := range list {
		addresses[s], _ = netip.ParseAddr(s.Address) // the plan wrote it
	}
	slices.SortFunc(list, func(a, b *v1alpha1.BGPSession) int { return addresses[a].Compare(addresses[b]) })
	for _, s := range list {
		member := s.Address
		if s.ASNumber != out.Session.ASNumber {
			member += " " + strconv.FormatInt(s.ASNumber, 10)
		}
		out.Members = append(out.Members, member)
	}
	return out
}

// mostFrequentAS is the AS number that most sessions have; of several the lowest.
func mostFrequentAS(list []*v1alpha1.BGPSession) int64 {
	count := map[int64]int{}
	for _, s := range list {
		count[s.ASNumber]++
	}
	most := list[0].ASNumber
	for as, n := range count {
		if n > count[most] || n == count[most] && as < most {
			most = as
		}
	}
	return most
}
