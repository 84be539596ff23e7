package iptables

import (
	"slices"

	"github.com/manul-net/manul/nodeagent/tables"
)

// planLayout makes the chains that belong to no single item, and the hooks.
func (tx *transaction) planLayout() {
	inUse := tx.state.use()
	floating := floatingOf(tx.desired)
	inUse.floating = len(floating) > 0
	inUse.vxlan = slices.Contains(tx.desired.Settings.Tunnels, tables.VXLAN)
	if !tx.full() && !tx.desired.SettingsDirty && !tx.desired.Floating.HasDirty() && inUse == tx.state.inUse {
		return
	}
	tx.state.inUse = inUse
	for _, table := range kernelTables() {
		wanted := map[string]bool{}
		for fam := range tx.d.families {
			l := layout{fam: fam, prefix: tx.d.options.WorkloadPrefix, settings: tx.desired.Settings, use: inUse, floating: floating}
			for _, c := range l.chains(table) {
				wanted[c.name] = true
				tx.ensureChain(place{fam, table}, c)
			}
		}
		for name := range tx.state.layout[table] {
			if !wanted[name] {
				tx.removeEverywhere(table, name)
			}
		}
		tx.state.layout[table] = wanted
	}
	tx.planHooks(inUse)
}

// removeEverywhere takes away a chain in both families.
func (tx *transaction) removeEverywhere(table, name string) {
	for fam := range tx.d.families {
		tx.removeChain(place{fam, table}, name)
	}
}

// planHooks makes the hooks that are needed.
func (tx *transaction) planHooks(inUse use) {
	for _, h := range hooks() {
		needed := h.needed(inUse)
		for fam := range tx.d.families {
			at := place{fam, h.table}
			switch {
			case tx.full() && tx.kernel.tables != nil:
				tx.planHook(at, h, needed)
			case tx.full(): // as it was
			case needed && !tx.state.hooks[h]:
				tx.batch(at).hooks = append(tx.batch(at).hooks, "-I "+h.from+" 1 "+h.rule())
			case !needed && tx.state.hooks[h]:
				tx.batch(at).hooks = append(tx.batch(at).hooks, "-D "+h.from+" "+h.rule())
			}
		}
		tx.state.hooks[h] = needed
	}
}

// planHook makes a hook the first rule of its chain, if it is needed, and the only one that leads to the driver's chains.
func (tx *transaction) planHook(at place, h hook, needed bool) {
	kernel := tx.kernel.tables[at]
	var have []savedRule
	for _, r := range kernel.others {
		if r.chain == h.from {
			have = append(have, r)
		}
	}
	if needed && len(have) == 1 && kernel.first[h.from] == have[0].rule && h.is(have[0].rule) || !needed && len(have) == 0 {
		return
	}
	b := tx.batch(at)
	for _, r := range have {
		b.hooks = append(b.hooks, "-D "+r.chain+" "+r.rule)
	}
	if needed {
		b.hooks = append(b.hooks, "-I "+h.from+" 1 "+h.rule())
	}
}
