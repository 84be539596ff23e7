package report

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	v3 "github.com/manul-net/manul/api/v3"
)

// Route is a route of a node.
type Route struct {
	Destination string `json:"destination"`
	Gateway     string `json:"gateway,omitempty"`
	Interface   string `json:"interface,omitempty"`
	// InKernel: packets follow the route. Otherwise BGP alone knows it.
	InKernel bool `json:"inKernel"`
	// Source: Kernel, Static, Direct, NodeMesh or BGPPeer; Peer is the address of who sent the route.
	Source string `json:"source"`
	Peer   string `json:"peer,omitempty"`
}

// Routes is the report on a node's routes.
type Routes struct {
	Node string `json:"node"`
	// At is when the node answered.
	At     time.Time `json:"at"`
	Routes []Route   `json:"routes"`
}

// RoutesOf reports on what a node answered; when peer is valid, only on the routes that it sent.
func RoutesOf(s *v3.CalicoNodeStatus, peer netip.Addr) *Routes {
	out := &Routes{Node: s.Spec.Node, At: s.Status.LastUpdated.Time, Routes: []Route{}}
	for _, list := range [2][]v3.NodeRoute{s.Status.Routes.RoutesV4, s.Status.Routes.RoutesV6} {
		for i := range list {
			r := &list[i]
			if from, err := netip.ParseAddr(r.LearnedFrom.PeerIP); peer.IsValid() && (err != nil || from != peer) {
				continue
			}
			out.Routes = append(out.Routes, Route{
				Destination: r.Destination, Gateway: r.Gateway, Interface: r.Interface, InKernel: r.Type == "FIB",
				Source: r.LearnedFrom.SourceType, Peer: r.LearnedFrom.PeerIP,
			})
		}
	}
	slices.SortStableFunc(out.Routes, func(a, b Route) int {
		first, _ := netip.ParsePrefix(a.Destination)
		second, _ := netip.ParsePrefix(b.Destination)
		return cmp.Or(first.Addr().Compare(second.Addr()), cmp.Compare(first.Bits(), second.Bits()), strings.Compare(a.Gateway, b.Gateway))
	})
	return out
}

// Text is a line for each route.
func (r *Routes) Text(w io.Writer) error {
	if len(r.Routes) == 0 {
		_, err := fmt.Fprintln(w, "No routes.")
		return err
	}
	var rows [][]string
	for i := range r.Routes {
		route := &r.Routes[i]
		where := "kernel"
		if !route.InKernel {
			where = "BGP only"
		}
		rows = append(rows, []string{route.Destination, route.Gateway, route.Interface, where, route.Source, route.Peer})
	}
	return table(w, []string{"DESTINATION", "GATEWAY", "INTERFACE", "IN", "SOURCE", "PEER"}, rows)
}
