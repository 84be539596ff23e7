package traffic

import (
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/tables"
)

// BenchmarkEdits changes policies all of which select a pod, and counts how long it takes until the kernel has the change, what
// CPU time the agent's driver and the kernel take for it, and what the driver keeps of the policies.
func BenchmarkEdits(b *testing.B) {
	for _, plane := range []string{"nftables", "nftables-unfolded", "iptables", "iptables-unfolded"} {
		for _, n := range loads() {
			if plane == "iptables-unfolded" && n > 1_000 {
				continue // a policy more takes half a minute
			}
			for name, edit := range edits(n) {
				b.Run(fmt.Sprintf("%s/policies=%d/%s", plane, n, name), func(b *testing.B) { measureEdits(b, plane, n, edit) })
			}
		}
	}
}

// edits by name. Each makes a change and, called again, the one that undoes it.
func edits(n int) map[string]func(p *tables.Policy, again bool) {
	middle := n / 2
	return map[string]func(*tables.Policy, bool){
		"a-member": func(p *tables.Policy, again bool) {
			m := tables.Member{Set: setName(middle), Prefix: netip.MustParsePrefix("10.99.0.1/32")}
			if again {
				p.Members.Delete(m)
			} else {
				p.Members.Set(m, struct{}{})
			}
		},
		"a-port": func(p *tables.Policy, again bool) {
			port := uint16(8080)
			if !again {
				port = 8081
			}
			p.Programs.Set(policyName(middle), allow(middle, port))
		},
		"a-policy": func(p *tables.Policy, again bool) {
			e, _ := p.Endpoints.Get(device)
			tier := e.Ingress[0]
			if again {
				tier.Programs = slices.DeleteFunc(slices.Clone(tier.Programs), func(name string) bool { return name == policyName(n) })
				p.Programs.Delete(policyName(n))
				p.Members.Delete(tables.Member{Set: setName(n), Prefix: peer(n)})
				p.Sets.Delete(setName(n))
			} else {
				tier.Programs = append(slices.Clone(tier.Programs), policyName(n))
				p.Sets.Set(setName(n), tables.Addresses)
				p.Members.Set(tables.Member{Set: setName(n), Prefix: peer(n)}, struct{}{})
				p.Programs.Set(policyName(n), allow(n, 8080))
			}
			e.Ingress = []tables.Tier{tier}
			p.Endpoints.Set(device, e)
		},
		"a-denying-policy": func(p *tables.Policy, again bool) { // before all others
			e, _ := p.Endpoints.Get(device)
			tier := e.Ingress[0]
			if again {
				tier.Programs = tier.Programs[1:]
				p.Programs.Delete(policyName(n))
			} else {
				tier.Programs = append([]string{policyName(n)}, tier.Programs...)
				deny := allow(middle, 8080)
				deny.Ingress[0].Action = tables.Deny
				p.Programs.Set(policyName(n), deny)
			}
			e.Ingress = []tables.Tier{tier}
			p.Endpoints.Set(device, e)
		},
	}
}

func measureEdits(b *testing.B, plane string, n int, edit func(*tables.Policy, bool)) {
	node := newPath(b).node
	desired := policies(n, true)
	before := heap()
	var d driver
	node.Must("putting policies into force", func() (err error) {
		if d, err = open(b, plane); err != nil {
			return err
		}
		return d.Apply(b.Context(), desired)
	})
	b.Cleanup(func() { _ = d.Close() })
	kept := heap() - before
	var took []time.Duration
	again := false
	once := func() {
		edit(desired, again)
		again = !again
		node.Must("changing policies", func() error { // programs that a driver runs are to be there, too
			from := time.Now()
			err := d.Apply(b.Context(), desired)
			took = append(took, time.Since(from))
			return err
		})
	}
	once()
	once() // the driver opens what it needs at the first change
	took = nil
	from := cpu(b)
	for b.Loop() {
		once()
	}
	spent := cpu(b) - from
	slices.Sort(took)
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ms(took[len(took)/2]), "ms-p50")
	b.ReportMetric(ms(took[len(took)*99/100]), "ms-p99")
	b.ReportMetric(ms(spent)/float64(len(took)), "ms-CPU")
	b.ReportMetric(float64(kept)/(1<<20), "MiB-kept")
	runtime.KeepAlive(desired)
}

// cpu is the time that the process and the programs that it ran have spent on the CPU, that of the kernel for them included.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var sum time.Duration
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return sum
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
