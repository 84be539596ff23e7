package kernels

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/test/netns"
	"github.com/manul-net/manul/test/oracle"
)

// Flow is one that kernels can show, with what should become of it.
type Flow struct {
	oracle.Flow
	Want oracle.Verdict
}

// Showable are those flows of which kernels can show what becomes of them. Not those whose verdict hangs on the port that
// masquerading chooses (ports are tried that every rule of the worlds tells from each other), not what connection tracking
// takes for broken, whoever sends it, and not what never leaves a pod.
func Showable(flows []oracle.Flow, network *oracle.Network, e *oracle.Evaluator) []Flow {
	var out []Flow
	for _, f := range flows {
		want := e.On(network).Verdict(f)
		show := f.Protocol != oracle.ICMPv6 || f.ICMPType >= 128 // lower ones are errors (RFC 4443, section 2.1), here about no flow
		for _, p := range network.Pods {
			show = show && (p.ID != f.From.Pod || !slices.Contains(p.Addresses, f.Destination))
		}
		for _, port := range []int{8500, 35000, 61000} {
			other := *network
			other.MasqueradePort = port
			v := e.On(&other).Verdict(f)
			show = show && v.Arrived == want.Arrived && v.Place == want.Place
		}
		if show {
			out = append(out, Flow{f, want})
		}
	}
	return out
}

// key tells flows that connection tracking takes for one, in either direction.
type key struct {
	protocol int
	a, b     netip.AddrPort
}

func keyOf(p oracle.Packet) key {
	a, b := netip.AddrPortFrom(p.Source, uint16(p.SourcePort)), netip.AddrPortFrom(p.Destination, uint16(p.DestinationPort))
	if a.Compare(b) > 0 {
		a, b = b, a
	}
	return key{p.Protocol, a, b}
}

// end is one end of flows of a protocol.
type end struct {
	protocol int
	at       netip.AddrPort
}

// marks are what tells whether a flow may be in one batch with others.
type marks struct {
	keys []key
	// hides are the ends to which the packet may go from a port of a node that masquerading chooses; whichever it is, what comes from there to
	// that port is taken for an answer. asks is where a packet for a node itself comes from.
	hides, asks []end
}

func marksOf(f *Flow, network *oracle.Network) (m marks) {
	p := f.Packet
	if p.Protocol == oracle.ICMP || p.Protocol == oracle.ICMPv6 {
		return m // these messages tell themselves apart
	}
	m.keys = []key{keyOf(p), keyOf(f.Want.Packet)}
	for i := range network.Interfaces {
		if slices.Contains(network.Interfaces[i].Addresses, p.Destination) {
			m.asks = []end{{p.Protocol, netip.AddrPortFrom(p.Source, uint16(p.SourcePort))}}
		}
	}
	to := func(p oracle.Packet) end {
		return end{p.Protocol, netip.AddrPortFrom(p.Destination, uint16(p.DestinationPort))}
	}
	hides, ends := f.Want.Packet.Source != p.Source || !f.Want.Arrived && f.From.Pod != "", []end{to(p), to(f.Want.Packet)}
	for _, t := range network.Translations {
		if t.Address == p.Destination && t.Port == p.DestinationPort && t.Protocol == p.Protocol {
			p.Destination, p.DestinationPort = t.Endpoint, t.EndpointPort
			m.keys, ends, hides = append(m.keys, keyOf(p)), append(ends, to(p)), hides || t.Masquerade
		}
	}
	if hides {
		m.hides = ends
	}
	return m
}

// batch has the marks of all its flows.
type batch struct {
	flows       []int
	keys        map[key]bool
	hides, asks map[end]bool
}

func (b *batch) takes(m marks) bool {
	return !anyIn(b.keys, m.keys) && !anyIn(b.hides, m.asks) && !anyIn(b.asks, m.hides)
}

// batches cuts flows so that in none are two that connection tracking takes for one, or might by the port that masquerading chooses.
func batches(flows []Flow, network *oracle.Network) [][]int {
	var all []*batch
	for i := range flows {
		m := marksOf(&flows[i], network)
		at := slices.IndexFunc(all, func(b *batch) bool { return b.takes(m) })
		if at < 0 {
			at, all = len(all), append(all, &batch{keys: map[key]bool{}, hides: map[end]bool{}, asks: map[end]bool{}})
		}
		b := all[at]
		b.flows = append(b.flows, i)
		mark(b.keys, m.keys)
		mark(b.hides, m.hides)
		mark(b.asks, m.asks)
	}
	var out [][]int
	for _, b := range all {
		out = append(out, b.flows)
	}
	return out
}

func anyIn[K comparable](set map[K]bool, keys []K) bool {
	return slices.ContainsFunc(keys, func(k K) bool { return set[k] })
}

func mark[K comparable](set map[K]bool, keys []K) {
	for _, k := range keys {
		set[k] = true
	}
}

// Clusters are the same network on several dataplanes.
type Clusters []*Cluster

// Difference is a flow on which a kernel did something else than it should.
type Difference struct {
	Dataplane string
	Flow      Flow
	// Got is what the kernel did.
	Got string
}

// String tells it in lines.
func (d *Difference) String() string {
	return fmt.Sprintf("%s\nwant: %s\n%s: %s", d.Flow.Flow, d.Flow.Want, d.Dataplane, d.Got)
}

// each does something with the clusters of all dataplanes at once.
func (all Clusters) each(do func(*Cluster) error) error {
	errs := make([]error, len(all))
	var wait sync.WaitGroup
	for i, c := range all {
		wait.Go(func() { errs[i] = do(c) })
	}
	wait.Wait()
	return errors.Join(errs...)
}

// Become makes all networks those of a world, each with tables of its own.
func (all Clusters) Become(network *oracle.Network, tables func() (oracle.Tables, error)) error {
	return all.each(func(c *Cluster) error {
		own, err := tables()
		if err != nil {
			return err
		}
		return c.Become(network, own)
	})
}

// Send sends flows through the kernels of all dataplanes, and returns those of which something else became than should.
func (all Clusters) Send(network *oracle.Network, flows []Flow) ([]*Difference, error) {
	cuts, found := batches(flows, network), make([][]*Difference, len(all))
	err := all.each(func(c *Cluster) error {
		for _, cut := range cuts {
			some, err := c.send(flows, cut)
			if err != nil {
				return err
			}
			found[slices.Index(all, c)] = append(found[slices.Index(all, c)], some...)
		}
		return nil
	})
	return slices.Concat(found...), err
}

// send sends some of the flows.
func (c *Cluster) send(flows []Flow, which []int) ([]*Difference, error) {
	if err := c.forget(); err != nil {
		return nil, err
	}
	var mail []netns.Mail
	expected := 0
	for _, i := range which {
		f := &flows[i]
		mail = append(mail, netns.Mail{From: c.places[f.From], Packet: netns.Packet{
			From: f.Source, To: f.Destination, Protocol: uint8(f.Protocol), SourcePort: uint16(f.SourcePort), Port: uint16(f.DestinationPort),
			Type: uint8(f.ICMPType), Code: uint8(f.ICMPCode),
		}})
		if f.Want.Arrived {
			expected++
		}
	}
	heard, err := c.watch.Send(mail, expected)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Name, err)
	}
	var out []*Difference
	for i, arrivals := range heard {
		f := flows[which[i]]
		if got := c.compare(&f, arrivals); got != "" {
			out = append(out, &Difference{Dataplane: c.Name, Flow: f, Got: got})
		}
	}
	return out, nil
}

// compare tells what became of a flow, if it is not what should. Ports that masquerading may have changed are no matter.
func (c *Cluster) compare(f *Flow, arrivals []netns.Arrival) string {
	var got []string
	same := len(arrivals) == 0 && !f.Want.Arrived
	for _, a := range arrivals {
		place := c.names[a.At]
		got = append(got, fmt.Sprintf("arrived at %s from %s at port %d", place, netip.AddrPortFrom(a.Source, a.SourcePort), a.Port))
		want := f.Want.Packet
		masqueraded := want.Source != f.Source
		same = f.Want.Arrived && len(arrivals) == 1 && place == f.Want.Place && a.Source == want.Source &&
			(!hasPorts(want.Protocol) || int(a.Port) == want.DestinationPort && (masqueraded || int(a.SourcePort) == want.SourcePort))
	}
	switch {
	case same:
		return ""
	case len(arrivals) == 0:
		return "did not arrive"
	}
	return strings.Join(got, ", and ")
}

func hasPorts(protocol int) bool {
	return protocol == unix.IPPROTO_TCP || protocol == unix.IPPROTO_UDP || protocol == unix.IPPROTO_SCTP
}
