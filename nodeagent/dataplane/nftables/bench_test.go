package nftables

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/netns"
)

// load makes tables with n programs of four rules each, one set for each, and 100 endpoints. Every endpoint falls under
// three programs; where all is true, each program selects some endpoint, else only the first ten do.
func load(n int, all bool) *tables.Policy {
	p := tables.NewPolicy()
	p.Settings.EndpointToHost, p.SettingsDirty = tables.HostAccept, true
	for i := range n {
		set := fmt.Sprintf("set-%d", i)
		p.Sets.Set(set, tables.Addresses)
		for j := range 4 {
			p.Members.Set(tables.Member{Set: set, Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(j), byte(i >> 8), byte(i)}), 32)}, struct{}{})
		}
		p.Programs.Set(programName(i), benchProgram(i, 80))
	}
	const endpoints = 100
	for e := range endpoints {
		reach := min(n, 10)
		if all {
			reach = n
		}
		var programs []string
		for k := range 3 {
			programs = append(programs, programName((e*reach/endpoints+k)%reach))
		}
		if all {
			for k := e; k < n; k += endpoints {
				programs = append(programs, programName(k))
			}
		}
		p.Endpoints.Set(fmt.Sprintf("cali%d", e), tables.Endpoint{
			Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 48, 0, byte(e)})},
			Ingress:   []tables.Tier{{Name: "default", Programs: programs, Default: tables.Deny}},
		})
	}
	return p
}

func programName(i int) string { return fmt.Sprintf("np.namespace-%d.policy-%d", i/10, i) }

func benchProgram(i int, port uint16) tables.Program {
	set := []string{fmt.Sprintf("set-%d", i)}
	return tables.Program{Ingress: []tables.Rule{
		{Action: tables.Allow, Protocol: protoTCP, Source: tables.Entity{Sets: set}, Destination: tables.Entity{Ports: ports(port)}},
		{Action: tables.Allow, Protocol: protoTCP, Source: tables.Entity{Sets: set}, Destination: tables.Entity{Ports: ports(443, 8443)}},
		{Action: tables.Allow, Protocol: protoUDP, Source: tables.Entity{Nets: prefixes("10.0.0.0/8", "172.16.0.0/12")}, Destination: tables.Entity{Ports: ports(53)}},
		{Action: tables.Deny, Source: tables.Entity{NotSets: set}},
	}}
}

func loaded(b *testing.B, n int, all bool) (*Driver, *tables.Policy) {
	b.Helper()
	ns := netns.New(b)
	d := openIn(b, ns)
	b.Cleanup(func() { _ = d.Close() })
	p := load(n, all)
	mustApply(b, d, p)
	b.ResetTimer()
	return d, p
}

func mustApply(b *testing.B, d *Driver, p *tables.Policy) {
	b.Helper()
	if err := d.Apply(b.Context(), p); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkOneMember(b *testing.B) {
	for _, n := range []int{10, 5000} {
		b.Run(fmt.Sprintf("programs=%d", n), func(b *testing.B) {
			d, p := loaded(b, n, false)
			m := member("set-1", "10.99.0.1/32")
			for b.Loop() {
				if !p.Members.Delete(m) {
					p.Members.Set(m, struct{}{})
				}
				mustApply(b, d, p)
			}
		})
	}
}

func BenchmarkProgramChange(b *testing.B) {
	for _, load := range []struct {
		programs int
		all      bool
	}{{10, false}, {5000, false}, {5000, true}} {
		b.Run(fmt.Sprintf("programs=%d/allSelect=%v", load.programs, load.all), func(b *testing.B) {
			d, p := loaded(b, load.programs, load.all)
			for i := 0; b.Loop(); i++ {
				p.Programs.Set(programName(1), benchProgram(1, uint16(1000+i%2)))
				mustApply(b, d, p)
			}
		})
	}
}

// A new policy: a set with a member, a program, and one endpoint that falls under it.
func BenchmarkNewPolicy(b *testing.B) {
	for _, n := range []int{10, 5000} {
		b.Run(fmt.Sprintf("programs=%d", n), func(b *testing.B) {
			d, p := loaded(b, n, false)
			before, _ := p.Endpoints.Get("cali50")
			after := before
			after.Ingress = []tables.Tier{{Name: "default", Programs: append([]string{"gnp.new"}, before.Ingress[0].Programs...), Default: tables.Deny}}
			for b.Loop() {
				if !p.Programs.Delete("gnp.new") {
					p.Sets.Set("set-new", tables.Addresses)
					p.Members.Set(member("set-new", "10.99.0.1/32"), struct{}{})
					p.Programs.Set("gnp.new", tables.Program{Ingress: []tables.Rule{{Action: tables.Deny, Source: tables.Entity{Sets: []string{"set-new"}}}}})
					p.Endpoints.Set("cali50", after)
				} else {
					p.Endpoints.Set("cali50", before)
					p.Members.Delete(member("set-new", "10.99.0.1/32"))
					p.Sets.Delete("set-new")
				}
				mustApply(b, d, p)
			}
		})
	}
}

func BenchmarkFirstApply(b *testing.B) {
	for _, n := range []int{1000, 5000} {
		b.Run(fmt.Sprintf("programs=%d", n), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				ns := netns.New(b)
				d, p := openIn(b, ns), load(n, true)
				b.StartTimer()
				mustApply(b, d, p)
				b.StopTimer()
				_ = d.Close()
				b.StartTimer()
			}
		})
	}
}

// A restart: everything is compared, and nothing has to change.
func BenchmarkRestart(b *testing.B) {
	for _, n := range []int{1000, 5000} {
		b.Run(fmt.Sprintf("programs=%d", n), func(b *testing.B) {
			d, p := loaded(b, n, true)
			for b.Loop() {
				d.Resync()
				mustApply(b, d, p)
			}
		})
	}
}

// BenchmarkMemory tells what the driver keeps for a state, tables apart.
func BenchmarkMemory(b *testing.B) {
	for b.Loop() {
		p := load(5000, true)
		ns := netns.New(b)
		p.Clean() // the first Apply compares everything anyway
		before := heap()
		d := openIn(b, ns)
		mustApply(b, d, p)
		b.ReportMetric(float64(heap()-before)/1024, "KiB-kept")
		runtime.KeepAlive(p)
		_ = d.Close()
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
