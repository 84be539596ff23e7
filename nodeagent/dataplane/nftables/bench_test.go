package nftables

import (
	"fmt"
	"net/netip"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/netns"
	"github.com/manul-net/manul/test/packets"
)

func loaded(b *testing.B, n int, all bool) (*Driver, *tables.Policy) {
	b.Helper()
	ns := netns.New(b)
	d := openIn(b, ns)
	b.Cleanup(func() { _ = d.Close() })
	p := packets.Load(n, all)
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
			m := packets.Member("set-1", "10.99.0.1/32")
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
				p.Programs.Set(packets.LoadName(1), packets.LoadProgram(1, uint16(1000+i%2)))
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
					p.Members.Set(packets.Member("set-new", "10.99.0.1/32"), struct{}{})
					p.Programs.Set("gnp.new", tables.Program{Ingress: []tables.Rule{{Action: tables.Deny, Source: tables.Entity{Sets: []string{"set-new"}}}}})
					p.Endpoints.Set("cali50", after)
				} else {
					p.Endpoints.Set("cali50", before)
					p.Members.Delete(packets.Member("set-new", "10.99.0.1/32"))
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
				d, p := openIn(b, ns), packets.Load(n, true)
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

// What an agent does at rest now and then: everything is compared, with sets of many members.
func BenchmarkComparison(b *testing.B) {
	for _, n := range []int{1_000, 50_000} {
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) {
			d, p := loaded(b, 100, true)
			p.Sets.Set("many", tables.Addresses)
			for i := range n {
				address := netip.AddrFrom4([4]byte{10, 200, byte(i >> 8), byte(i)})
				p.Members.Set(tables.Member{Set: "many", Prefix: netip.PrefixFrom(address, 32)}, struct{}{})
			}
			mustApply(b, d, p)
			from := spent(b)
			for b.Loop() {
				d.Resync()
				mustApply(b, d, p)
			}
			b.ReportMetric(float64((spent(b)-from).Microseconds())/1000/float64(b.N), "ms-CPU")
		})
	}
}

// spent is the processor time of the process, that of the kernel for it included.
func spent(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkMemory tells what the driver keeps for a state, tables apart.
func BenchmarkMemory(b *testing.B) {
	for b.Loop() {
		p := packets.Load(5000, true)
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

func openIn(t testing.TB, ns *netns.NS) *Driver {
	t.Helper()
	var d *Driver
	ns.Must("opening a driver", func() error {
		var err error
		d, err = New(Options{WorkloadPrefix: packets.WorkloadPrefix})
		return err
	})
	return d
}
