package bgp

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/manul-net/manul/test/netns"
)

// Kind of router.
type Kind string

// The routers that nodes talk to.
const (
	BIRD Kind = "BIRD"
	FRR  Kind = "FRR"
)

// withEach runs a test with each kind of router.
func withEach(t *testing.T, test func(t *testing.T, kind Kind)) {
	t.Helper()
	for _, kind := range []Kind{BIRD, FRR} {
		t.Run(string(kind), func(t *testing.T) { test(t, kind) })
	}
}

// Peering is a router's side of a session with a node, in no router's language. The zero values of what is not an address or a number
// of an AS are what routers do of themselves.
type Peering struct {
	// Router and Node are the addresses of the two ends.
	Router, Node     string
	RouterAS, NodeAS int
	// Port of the node.
	Port     int
	Password string
	// Hold time, seconds.
	Hold int
	// Hops that the node may be away with TTL security; 0: none is asked for.
	Hops        int
	MaxPrefixes int
	// Far: the node may be any number of hops away. Passive: the node opens the session. Client: the router reflects routes to the node.
	Far, Passive, Client bool
	// NoRestart: no graceful restart.
	NoRestart bool
	// Both families go over the session. Mute: the router sends nothing.
	Both, Mute bool
}

func (p *Peering) is6() bool { return strings.Contains(p.Node, ":") }

// Offer is a route that a router has of itself.
type Offer struct {
	Prefix string
	// Path that it pretends to have, before the router's own AS number.
	Path []int
	// Communities, plain and large.
	Communities []string
}

func (o *Offer) is6() bool { return strings.Contains(o.Prefix, ":") }

// Setup is all that a router does.
type Setup struct {
	// ID is an IPv4 address, Port where it listens (0: 179).
	ID       string
	Port     int
	Peerings []Peering
	Offers   []Offer
	// Ways to next hops that BIRD has to be told of, since it does not look at the kernel's routes.
	Ways string
}

// offers are plain routes.
func offers(prefixes ...string) []Offer {
	var out []Offer
	for _, p := range prefixes {
		out = append(out, Offer{Prefix: p})
	}
	return out
}

// Start starts a router of a kind.
func (s *Setup) Start(t testing.TB, ns *netns.NS, kind Kind) *Router {
	t.Helper()
	if kind == BIRD {
		return NewBIRD(t, ns, s.ID, s.bird())
	}
	return newFRR(t, ns, s.Port, s.frr())
}

// Become has the router do something else.
func (r *Router) Become(s *Setup) {
	r.t.Helper()
	if r.bird {
		r.Reconfigure(s.ID, s.bird())
		return
	}
	r.Configure(strings.Split("no router bgp\n"+s.frr(), "\n")...)
}

func (s *Setup) bird() string {
	var out strings.Builder
	for i := range s.Peerings {
		p := &s.Peerings[i]
		var more strings.Builder
		add := func(there bool, format string, args ...any) {
			if there {
				fmt.Fprintf(&more, format+"; ", args...)
			}
		}
		add(p.Password != "", "password %q", p.Password)
		add(p.Hold > 0, "hold time %d", p.Hold)
		add(p.Hops == 1, "ttl security yes")
		add(p.Hops > 1, "multihop %d; ttl security yes", p.Hops)
		add(p.Far, "multihop")
		add(p.Passive, "passive yes")
		add(p.Client, "rr client")
		port := ""
		if p.Port != 0 {
			port = fmt.Sprintf("port %d", p.Port)
		}
		local := ""
		if s.Port != 0 {
			local = fmt.Sprintf("port %d", s.Port)
		}
		restart := "on"
		if p.NoRestart {
			restart = "off"
		}
		limit := ""
		if p.MaxPrefixes > 0 {
			limit = fmt.Sprintf("receive limit %d action disable; ", p.MaxPrefixes)
		}
		fmt.Fprintf(&out, "protocol bgp %s { local %s %s as %d; neighbor %s %s as %d; connect delay time 1; error wait time 1,2; graceful restart %s; %s\n",
			protocolName(p), p.Router, local, p.RouterAS, p.Node, port, p.NodeAS, restart, more.String())
		for _, channel := range []string{"ipv4", "ipv6"} {
			if p.Both || p.is6() == (channel == "ipv6") {
				fmt.Fprintf(&out, "%s { import all; export %s; %s};\n", channel, map[bool]string{false: "all", true: "none"}[p.Mute], limit)
			}
		}
		out.WriteString("}\n")
	}
	for i := range s.Offers {
		o := &s.Offers[i]
		channel := "ipv4"
		if o.is6() {
			channel = "ipv6"
		}
		fmt.Fprintf(&out, "protocol static offer%d { %s { import filter {", i, channel)
		for _, as := range slices.Backward(o.Path) {
			fmt.Fprintf(&out, " bgp_path.prepend(%d);", as)
		}
		for _, c := range o.Communities {
			numbers := strings.Split(c, ":")
			kind := map[int]string{2: "bgp_community", 3: "bgp_large_community"}[len(numbers)]
			fmt.Fprintf(&out, " %s.add((%s));", kind, strings.Join(numbers, ", "))
		}
		fmt.Fprintf(&out, " accept; }; }; route %s blackhole; }\n", o.Prefix)
	}
	if s.Ways != "" {
		fmt.Fprintf(&out, "protocol static ways { %s }\n", s.Ways)
	}
	return out.String()
}

// protocolName is BIRD's name of a session.
func protocolName(p *Peering) string {
	return "to" + strings.NewReplacer(".", "_", ":", "_").Replace(p.Node)
}

func (s *Setup) frr() string {
	if len(s.Peerings) == 0 {
		return ""
	}
	var out strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
	line("router bgp %d", s.Peerings[0].RouterAS)
	line("bgp router-id %s", s.ID)
	line("no bgp ebgp-requires-policy")
	line("no bgp network import-check")
	line("no bgp default ipv4-unicast")
	for i := range s.Peerings {
		p := &s.Peerings[i]
		n := "neighbor " + p.Node + " "
		line(n+"remote-as %d", p.NodeAS)
		line(n + "timers connect 1")
		line(n + "advertisement-interval 0")
		add := func(there bool, format string, args ...any) {
			if there {
				line(n+format, args...)
			}
		}
		add(p.Passive, "passive")
		add(p.Password != "", "password %s", p.Password)
		add(p.Port != 0, "port %d", p.Port)
		add(p.Hold > 0, "timers %d %d", p.Hold/3, p.Hold)
		add(p.Hops > 0, "ttl-security hops %d", p.Hops)
		add(p.Far && p.RouterAS != p.NodeAS, "ebgp-multihop 255")
		add(p.NoRestart, "graceful-restart-disable")
	}
	for _, v6 := range []bool{false, true} {
		af := map[bool]string{false: "ipv4", true: "ipv6"}[v6]
		line("address-family %s unicast", af)
		for i := range s.Peerings {
			p := &s.Peerings[i]
			if !p.Both && p.is6() != v6 {
				continue
			}
			line("neighbor %s activate", p.Node)
			if p.Client {
				line("neighbor %s route-reflector-client", p.Node)
			}
			if p.MaxPrefixes > 0 {
				line("neighbor %s maximum-prefix %d", p.Node, p.MaxPrefixes)
			}
		}
		for i := range s.Offers {
			if s.Offers[i].is6() == v6 {
				line("network %s route-map offer%d", s.Offers[i].Prefix, i)
			}
		}
		line("exit-address-family")
	}
	line("exit")
	for i := range s.Offers {
		o := &s.Offers[i]
		line("route-map offer%d permit 10", i)
		if len(o.Path) > 0 {
			line("set as-path prepend %s", strings.Trim(fmt.Sprint(o.Path), "[]"))
		}
		var plain, large []string
		for _, c := range o.Communities {
			if strings.Count(c, ":") == 2 {
				large = append(large, c)
			} else {
				plain = append(plain, c)
			}
		}
		if plain != nil {
			line("set community %s", strings.Join(plain, " "))
		}
		if large != nil {
			line("set large-community %s", strings.Join(large, " "))
		}
		line("exit")
	}
	return out.String()
}

// Known is a route as a router has it from a peer.
type Known struct {
	NextHop string
	// Path are AS numbers with spaces between them.
	Path string
	// Communities in order, plain and large.
	Communities []string
}

// Knows gives the routes to a prefix that a router learned.
func (r *Router) Knows(prefix string) []Known {
	r.t.Helper()
	if r.bird {
		return birdKnows(r.Ask("show", "route", prefix, "all"))[prefix]
	}
	af := "ipv4"
	if strings.Contains(prefix, ":") {
		af = "ipv6"
	}
	var answer struct {
		Paths []struct {
			ASPath         struct{ String string } `json:"aspath"`
			Community      struct{ String string } `json:"community"`
			LargeCommunity struct{ String string } `json:"largeCommunity"`
			Nexthops       []struct {
				IP, Scope string
				Used      bool
			} `json:"nexthops"`
			Peer struct{ PeerID string } `json:"peer"`
		} `json:"paths"`
	}
	if err := json.Unmarshal([]byte(r.Ask("show bgp "+af+" unicast "+prefix+" json")), &answer); err != nil {
		return nil
	}
	var out []Known
	for _, p := range answer.Paths {
		if p.Peer.PeerID == "" || p.Peer.PeerID == "0.0.0.0" || p.Peer.PeerID == "::" {
			continue // its own
		}
		k := Known{Path: p.ASPath.String}
		if k.Path == "Local" {
			k.Path = ""
		}
		k.Communities = append(strings.Fields(p.Community.String), strings.Fields(p.LargeCommunity.String)...)
		slices.Sort(k.Communities)
		for _, n := range p.Nexthops {
			if n.Scope != "link-local" {
				k.NextHop = n.IP
			}
		}
		out = append(out, k)
	}
	return out
}

// birdKnows reads "show route all": what was learned by BGP, by prefix.
func birdKnows(text string) map[string][]Known {
	out := map[string][]Known{}
	prefix := ""
	var current *Known
	for line := range strings.SplitSeq(text, "\n") {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if strings.Contains(line, " unicast [") || strings.Contains(line, " blackhole [") || strings.Contains(line, " unreachable [") {
			if strings.Contains(fields[0], "/") {
				prefix = fields[0]
			}
			current = nil
			continue
		}
		value, found := strings.CutPrefix(strings.TrimSpace(line), "BGP.")
		if !found {
			continue
		}
		if current == nil {
			out[prefix] = append(out[prefix], Known{})
			current = &out[prefix][len(out[prefix])-1]
		}
		name, value, _ := strings.Cut(value, ":")
		value = strings.TrimSpace(value)
		switch name {
		case "next_hop":
			current.NextHop = strings.Fields(value)[0]
		case "as_path":
			current.Path = value
		case "community", "large_community":
			for c := range strings.SplitSeq(value, "(") {
				if c = strings.Trim(c, " )"); c != "" {
					current.Communities = append(current.Communities, strings.NewReplacer(", ", ":", ",", ":").Replace(c))
				}
			}
			slices.Sort(current.Communities)
		}
	}
	return out
}

// Hold is the hold time of a session as the router has agreed on it, seconds; 0: there is no session.
func (r *Router) Hold(p *Peering) int {
	r.t.Helper()
	seconds := 0
	if r.bird {
		for line := range strings.SplitSeq(r.Ask("show", "protocols", "all", protocolName(p)), "\n") {
			if _, after, ok := strings.Cut(line, "Hold timer:"); ok {
				_, after, _ = strings.Cut(after, "/")
				_, _ = fmt.Sscan(after, &seconds)
			}
		}
		return seconds
	}
	_, after, _ := strings.Cut(r.Ask("show bgp neighbors "+p.Node), "Hold time is ")
	if after == "" {
		_, after, _ = strings.Cut(r.Ask("show bgp neighbors "+p.Node), "hold time is ")
	}
	_, _ = fmt.Sscan(after, &seconds)
	return seconds
}

// IsEstablished tells whether a session stands.
func (r *Router) IsEstablished(p *Peering) bool {
	r.t.Helper()
	if r.bird {
		return strings.Contains(r.Ask("show", "protocols", protocolName(p)), "Established")
	}
	return strings.Contains(r.Ask("show bgp neighbors "+p.Node), "BGP state = Established")
}

// Disable ends a session, and Enable begins it again.
func (r *Router) Disable(p *Peering) {
	r.t.Helper()
	if r.bird {
		r.Ask("disable", protocolName(p))
		return
	}
	r.Configure(fmt.Sprintf("router bgp %d", p.RouterAS), "neighbor "+p.Node+" shutdown")
}

// Enable begins a session that was disabled.
func (r *Router) Enable(p *Peering) {
	r.t.Helper()
	if r.bird {
		r.Ask("enable", protocolName(p))
		return
	}
	r.Configure(fmt.Sprintf("router bgp %d", p.RouterAS), "no neighbor "+p.Node+" shutdown")
}

// Restart ends a session that begins again by itself.
func (r *Router) Restart(p *Peering) {
	r.t.Helper()
	if r.bird {
		r.Ask("restart", protocolName(p))
		return
	}
	r.Ask("clear bgp " + p.Node)
}
