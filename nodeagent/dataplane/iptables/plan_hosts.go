package iptables

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/manul-net/manul/nodeagent/tables"
)

// planHosts makes the chains that host endpoints need, and the trees that lead to them.
func (tx *transaction) planHosts() error {
	if !tx.full() && !tx.desired.HostEndpoints.HasDirty() {
		return nil
	}
	names := tx.desired.HostEndpoints.Dirty()
	if tx.full() {
		names = maps.Keys(maps.Collect(tx.desired.HostEndpoints.All()))
	}
	for _, name := range slices.Sorted(names) {
		tx.planHost(name)
	}
	inUse := tx.state.use()
	for h := range hostHooks {
		t := tree{option: h.option(), root: h.root(), rest: goReturn}
		var list []target
		if inUse.needs(h) {
			for name, host := range tx.state.hosts {
				if name == tables.AllInterfaces {
					t.rest = host.to[h]
				} else {
					list = append(list, target{name, host.to[h]})
				}
			}
			if len(list) == 0 && t.rest == goReturn { // a chain that does nothing, since other chains lead to it
				list = append(list, target{loopback, goReturn})
			}
		}
		tx.ensureTree(h.table(), t, list)
	}
	return nil
}

// planHost makes the chains of one host endpoint, or gives it up.
func (tx *transaction) planHost(name string) {
	wish, wanted := tx.desired.HostEndpoints.Get(name)
	tx.state.unfit.Look(tables.KindHostEndpoint, name)
	if wanted {
		if err := checkHost(name, tx.d.options.WorkloadPrefix); err != nil {
			tx.state.unfit.Note(tables.KindHostEndpoint, name, "", err)
			wanted = false
		}
	}
	before := tx.state.hosts[name]
	if wanted {
		tx.state.hosts[name] = tx.makeHost(wish)
		tx.earlyFirst = true
	} else {
		delete(tx.state.hosts, name)
	}
	for h := range hostHooks {
		tx.release(ref{h.table(), before.lists[h]})
	}
}

// checkHost tells why an interface can't be a host endpoint's.
func checkHost(name, prefix string) error {
	switch {
	case name == tables.AllInterfaces:
		return nil
	case name == "":
		return errors.New("the interface has no name")
	case strings.HasPrefix(name, prefix):
		return fmt.Errorf("the interface's name begins with %q, as those of workloads do", prefix)
	default:
		return checkName(name)
	}
}

// makeHost makes the chains that a host endpoint needs.
func (tx *transaction) makeHost(wish tables.HostEndpoint) hostState {
	local, atEnd := hostList, goReturn
	if wish.LocalDefault != tables.Allow {
		local, atEnd = denyList, drop
	}
	var s hostState
	for h, list := range [hostHooks]struct {
		tiers []tables.Tier
		kind  listKind
		none  string // where no tiers lead
	}{
		untrackedIn:  {wish.Untracked.Ingress, untrackedList, goReturn},
		untrackedOut: {wish.Untracked.Egress, untrackedList, goReturn},
		preDNAT:      {wish.PreDNAT, earlyList, goReturn},
		forwardIn:    {wish.Forward.Ingress, hostList, goReturn},
		forwardOut:   {wish.Forward.Egress, hostList, goReturn},
		localIn:      {wish.Local.Ingress, local, atEnd},
		localOut:     {wish.Local.Egress, local, atEnd},
	} {
		hook := hostHook(h)
		switch {
		case wish.Unknown && (hook == localIn || hook == localOut):
			s.to[h] = drop
		case len(list.tiers) == 0:
			s.to[h] = list.none
		default:
			s.lists[h] = tx.makeList(hook.table(), hook.direction(), list.kind, list.tiers)
			s.to[h] = goTo(s.lists[h])
		}
	}
	return s
}
