package fold

import (
	"slices"

	"github.com/manul-net/manul/nodeagent/tables"
)

// Dataplane is what a folder has to know of the driver that it works for.
type Dataplane struct {
	// Fit tells whether the driver can put a program into force. One that it can't is not folded.
	Fit func(name string, program *tables.Program) bool
	// TierName tells tiers apart: it says the direction and the programs in their order.
	TierName func(Direction, tables.Tier) string
}

// TellAll tells a new folder of all that is in the tables, and settles.
func (f *Folder) TellAll(d Dataplane) {
	for name, program := range f.desired.Programs.All() {
		f.Program(name, program, d.Fit(name, &program))
	}
	for name, e := range f.desired.Endpoints.All() {
		f.User(workloadUser(name), d.workloadTiers(&e))
	}
	for name, h := range f.desired.HostEndpoints.All() {
		f.User(hostUser(name), d.hostTiers(&h))
	}
	f.Settle()
}

// Tell tells the folder of what is marked as changed in the tables, and of programs that may be fit now and were not, and settles.
func (f *Folder) Tell(d Dataplane, again []string) {
	look := func(name string) {
		program, ok := f.desired.Programs.Get(name)
		if !ok {
			f.DeleteProgram(name)
			return
		}
		f.Program(name, program, d.Fit(name, &program))
	}
	for _, name := range f.Members() {
		look(name)
	}
	for name := range f.desired.Programs.Dirty() {
		look(name)
	}
	for _, name := range again {
		look(name)
	}
	for name := range f.desired.Endpoints.Dirty() {
		e, _ := f.desired.Endpoints.Get(name)
		f.User(workloadUser(name), d.workloadTiers(&e))
	}
	for name := range f.desired.HostEndpoints.Dirty() {
		h, _ := f.desired.HostEndpoints.Get(name)
		f.User(hostUser(name), d.hostTiers(&h))
	}
	f.Settle()
}

func workloadUser(name string) string { return "workload " + name }
func hostUser(name string) string     { return "host " + name }

func (d Dataplane) workloadTiers(e *tables.Endpoint) []Tier {
	return append(d.tiers(Ingress, e.Ingress), d.tiers(Egress, e.Egress)...)
}

func (d Dataplane) hostTiers(h *tables.HostEndpoint) []Tier {
	return slices.Concat(
		d.tiers(Ingress, h.Untracked.Ingress), d.tiers(Egress, h.Untracked.Egress), d.tiers(Ingress, h.PreDNAT),
		d.tiers(Ingress, h.Forward.Ingress), d.tiers(Egress, h.Forward.Egress),
		d.tiers(Ingress, h.Local.Ingress), d.tiers(Egress, h.Local.Egress),
	)
}

func (d Dataplane) tiers(direction Direction, tiers []tables.Tier) []Tier {
	out := make([]Tier, 0, len(tiers))
	for _, t := range tiers {
		out = append(out, Tier{Name: d.TierName(direction, t), Direction: direction, Programs: t.Programs})
	}
	return out
}
