package nftables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
)

// planHosts makes the chains that host endpoints need, and leads the verdict maps to them. The one for all other interfaces
// comes first: the others' elements turn into what it says before they go.
func (tx *transaction) planHosts(ctx context.Context) error {
	names := slices.Collect(tx.desired.HostEndpoints.Dirty())
	var have kernelElements
	if tx.full() {
		names = slices.Collect(maps.Keys(maps.Collect(tx.desired.HostEndpoints.All())))
		var sets []string
		for h := range hostHooks {
			sets = append(sets, h.verdictMap())
		}
		var err error
		if have, err = tx.readElements(sets...); err != nil {
			return err
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(-cmp.Compare(priority(a), priority(b)), cmp.Compare(a, b))
	})
	for _, name := range names {
		if err := tx.planHost(ctx, name, have); err != nil {
			return err
		}
	}
	others := useOf(tx.state.hosts).others
	tx.main.item = item{kind: kindSettings}
	for h := range hostHooks {
		set := h.verdictMap()
		for _, e := range have[set] {
			tx.fadeElement(setElement{set, e}, others[h])
		}
	}
	return nil
}

func priority(name string) int {
	if name == tables.AllInterfaces {
		return 1
	}
	return 0
}

// fadeElement makes an element that goes lead to what its interface falls under without it, and deletes it after the main
// transaction. A packet that is on its way sees the rules of before, which do not know that yet, but the maps of now.
func (tx *transaction) fadeElement(e setElement, to string) {
	after := element{key: e.key, to: to}
	if e.element != after {
		tx.main.elements(unix.NFT_MSG_DELSETELEM, e.set, 0, []element{e.element})
		tx.main.elements(unix.NFT_MSG_NEWSETELEM, e.set, 0, []element{after})
	}
	tx.late.elements(unix.NFT_MSG_DELSETELEM, e.set, 0, []element{after})
}

// planHost leads the packets of one interface to its chains, or gives it up. The endpoint for all other interfaces has no
// elements: base chains lead to its chains.
func (tx *transaction) planHost(ctx context.Context, name string, have kernelElements) error {
	it := item{tables.KindHostEndpoint, name}
	tx.state.unfit.Look(it.kind, it.name)
	var after targets
	wish, wanted := tx.desired.HostEndpoints.Get(name)
	if wanted {
		if err := tx.checkHost(name); err != nil {
			tx.state.unfit.Note(it.kind, it.name, "", err)
			wanted = false
		}
	}
	if wanted && tx.refused(it) {
		wanted = false
	}
	if wanted {
		var err error
		if after, err = tx.makeHost(ctx, it, wish); err != nil {
			return err
		}
	}
	before := tx.state.hosts[name]
	switch {
	case name == tables.AllInterfaces:
	case wanted:
		tx.replaceElements(it, before.elements(name), after.elements(name), have)
	default:
		tx.main.item = it
		others := useOf(tx.state.hosts).others
		for _, e := range before.elements(name) {
			tx.fadeElement(e, others[hookOf(e.set)])
		}
	}
	tx.release(before[:]...)
	if wanted {
		tx.state.hosts[name] = after
	} else {
		delete(tx.state.hosts, name)
	}
	return nil
}

// checkHost tells why an interface can't be a host endpoint's.
func (tx *transaction) checkHost(name string) error {
	switch prefix := tx.d.options.WorkloadPrefix; {
	case name == "":
		return errors.New("the interface has no name")
	case strings.HasPrefix(name, prefix):
		return fmt.Errorf("the interface's name begins with %q, as those of workloads do", prefix)
	case len(name) >= interfaceNameLen:
		return fmt.Errorf("the interface's name is longer than %d characters", interfaceNameLen-1)
	}
	return nil
}

// makeHost makes the chains that a host endpoint needs.
func (tx *transaction) makeHost(ctx context.Context, it item, wish tables.HostEndpoint) (targets, error) {
	local, atEnd := allowList, toAccept
	if wish.LocalDefault != tables.Allow {
		local, atEnd = denyList, toDrop
	}
	var t targets
	for h, list := range [hostHooks]struct {
		tiers []tables.Tier
		kind  listKind
		none  string // where no tiers lead
	}{
		untrackedIn:  {wish.Untracked.Ingress, untrackedList, toAccept},
		untrackedOut: {wish.Untracked.Egress, untrackedList, toAccept},
		preDNAT:      {wish.PreDNAT, earlyList, toAccept},
		forwardIn:    {wish.Forward.Ingress, forwardList, toAccept},
		forwardOut:   {wish.Forward.Egress, forwardList, toAccept},
		localIn:      {wish.Local.Ingress, local, atEnd},
		localOut:     {wish.Local.Egress, local, atEnd},
	} {
		hook := hostHook(h)
		switch {
		case wish.Unknown && (hook == localIn || hook == localOut):
			t[h] = toDrop
		case len(list.tiers) == 0:
			t[h] = list.none
		default:
			name, err := tx.makeList(ctx, hook.direction(), list.kind, list.tiers)
			if err != nil {
				return targets{}, fmt.Errorf("%s %q: %w", it.kind, it.name, err)
			}
			t[h] = name
		}
	}
	return t, nil
}
