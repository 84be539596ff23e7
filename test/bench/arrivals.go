package main

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// arrival is an address that came into a table of the kernel: into the routes of the node that has its pod, or into a set.
type arrival struct {
	Name    string     `json:"name"` // "route" or "element"
	Address netip.Addr `json:"address"`
	At      int64      `json:"at"`
}

// arrivals prints, as the kernel tells of it, each pod's address that comes into this host's routes or sets, until ctx ends.
func (b *bench) arrivals(ctx context.Context) error {
	done := make(chan struct{})
	defer close(done)
	routes := make(chan netlink.RouteUpdate, 1024)
	if err := netlink.RouteSubscribe(routes, done); err != nil {
		return fmt.Errorf("watching routes: %w", err)
	}
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("opening nftables: %w", err)
	}
	monitor := nftables.NewMonitor(nftables.WithMonitorEventBuffer(1024)) // of all: with less than all, version 0.3.0 tells nothing
	elements, err := conn.AddMonitor(monitor)
	if err != nil {
		return fmt.Errorf("watching sets: %w", err)
	}
	defer func() { _ = monitor.Close() }()
	if err := b.answered("watching"); err != nil {
		return err
	}
	for {
		var came []arrival
		select {
		case <-ctx.Done():
			return nil
		case r, open := <-routes:
			if !open {
				return fmt.Errorf("watching routes: the kernel's messages ended")
			}
			if a, ok := host(r); ok && r.Type == unix.RTM_NEWROUTE {
				came = append(came, arrival{Name: "route", Address: a})
			}
		case e, open := <-elements:
			if !open {
				return fmt.Errorf("watching sets: the kernel's messages ended")
			}
			if e.Type == nftables.MonitorEventTypeOOB {
				return fmt.Errorf("watching sets: %w", e.Error)
			}
			if e.Type != nftables.MonitorEventTypeNewSetElem {
				continue
			}
			added, _ := e.Data.([]nftables.SetElement)
			for _, element := range added {
				if a, ok := netip.AddrFromSlice(element.Key); ok {
					came = append(came, arrival{Name: "element", Address: a})
				}
			}
		}
		for _, a := range came {
			a.At = time.Now().UnixNano()
			if err := b.out.Encode(a); err != nil {
				return err
			}
		}
	}
}

// host is the address that a route of one address leads to.
func host(r netlink.RouteUpdate) (netip.Addr, bool) {
	if r.Dst == nil {
		return netip.Addr{}, false
	}
	if ones, bits := r.Dst.Mask.Size(); ones != bits {
		return netip.Addr{}, false
	}
	a, ok := netip.AddrFromSlice(r.Dst.IP)
	return a.Unmap(), ok
}
