package iptables

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/netns"
)

// load makes tables with n programs of four rules each, one set for each, and 100 endpoints with three programs each.
func load(n int) *tables.Policy {
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
	for e := range 100 {
		var programs []string
		for k := range 3 {
			programs = append(programs, programName((e+k)%n))
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

// A first application, and a comparison of everything in which nothing has to change.
func BenchmarkFull(b *testing.B) {
	for _, variant := range []Variant{NFT, Legacy} {
		for _, n := range []int{500, 5000} {
			b.Run(fmt.Sprintf("%s/programs=%d", variant, n), func(b *testing.B) {
				var first, again time.Duration
				for b.Loop() {
					ns := netns.New(b)
					d := openIn(b, ns, variant)
					p := load(n)
					apply := func() time.Duration {
						start := time.Now()
						ns.Must("applying", func() error { return d.Apply(b.Context(), p) })
						return time.Since(start)
					}
					first += apply()
					d.Resync()
					again += apply()
					_ = d.Close()
				}
				b.ReportMetric(float64(first.Milliseconds())/float64(b.N), "ms/first")
				b.ReportMetric(float64(again.Milliseconds())/float64(b.N), "ms/compare")
			})
		}
	}
}

// loaded runs a benchmark for each variant and for some numbers of programs, with the tables applied.
func loaded(b *testing.B, run func(b *testing.B, apply func(*tables.Policy), p *tables.Policy)) {
	b.Helper()
	for _, variant := range []Variant{NFT, Legacy} {
		for _, n := range []int{10, 500, 5000} {
			b.Run(fmt.Sprintf("%s/programs=%d", variant, n), func(b *testing.B) {
				ns := netns.New(b)
				d := openIn(b, ns, variant)
				b.Cleanup(func() { _ = d.Close() })
				apply := func(p *tables.Policy) {
					var err error
					ns.Do(func() { err = d.Apply(b.Context(), p) })
					if err != nil {
						b.Fatal(err)
					}
				}
				p := load(n)
				apply(p)
				b.ResetTimer()
				run(b, apply, p)
			})
		}
	}
}

func BenchmarkOneMember(b *testing.B) {
	loaded(b, func(b *testing.B, apply func(*tables.Policy), p *tables.Policy) {
		b.Helper()
		m := member("set-1", "10.99.0.1/32")
		for b.Loop() {
			if !p.Members.Delete(m) {
				p.Members.Set(m, struct{}{})
			}
			apply(p)
		}
	})
}

func BenchmarkProgramChange(b *testing.B) {
	loaded(b, func(b *testing.B, apply func(*tables.Policy), p *tables.Policy) {
		b.Helper()
		for i := 0; b.Loop(); i++ {
			p.Programs.Set(programName(1), benchProgram(1, uint16(1000+i%2)))
			apply(p)
		}
	})
}
