package ipam

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/manul-net/manul/internal/ipam"
)

// model is what an allocator has to be, in the plainest form.
type model struct {
	blocks    []Block
	cooldown  time.Duration
	pods      map[string]*modelPod
	freed     map[netip.Addr]time.Time
	liveKnown bool
}

type modelPod struct {
	addrs       []netip.Addr
	attachments map[string]bool
	live, named bool
	since       time.Time
}

// kept is what of a model is on disk.
type kept struct {
	pods  map[string]*modelPod
	freed map[netip.Addr]time.Time
}

func (m *model) onDisk() kept {
	k := kept{pods: map[string]*modelPod{}, freed: maps.Clone(m.freed)}
	for name, p := range m.pods {
		c := *p
		c.attachments = maps.Clone(p.attachments)
		k.pods[name] = &c
	}
	return k
}

// settle frees what nobody holds.
func (m *model) settle(now time.Time) {
	if !m.liveKnown {
		return
	}
	for name, p := range m.pods {
		if p.live || len(p.attachments) > 0 || !p.named && now.Sub(p.since) < defaultGrace {
			continue
		}
		for _, addr := range p.addrs {
			m.freed[addr] = now
		}
		delete(m.pods, name)
	}
}

// forget: outside the blocks, what is past its cooldown need not be known any more.
func (m *model) forget(now time.Time) {
	for addr, at := range m.freed {
		inside := slices.ContainsFunc(m.blocks, func(b Block) bool { return b.CIDR.Contains(addr) })
		if !inside && now.Sub(at) >= m.cooldown {
			delete(m.freed, addr)
		}
	}
}

func (m *model) used() map[netip.Addr]bool {
	used := map[netip.Addr]bool{}
	for _, p := range m.pods {
		for _, addr := range p.addrs {
			used[addr] = true
		}
	}
	return used
}

// candidates are the addresses of a family that may be given out from some pools, the best first.
func (m *model) candidates(is4 bool, pools []netip.Prefix, now time.Time) []netip.Addr {
	used := m.used()
	var list []netip.Addr
	for _, b := range m.blocks {
		if b.CIDR.Addr().Is4() != is4 || len(pools) > 0 && !slices.Contains(pools, b.Pool) {
			continue
		}
		for offset := range ipam.Size(b.CIDR) {
			addr := ipam.AddrAt(b.CIDR, offset)
			reserved := slices.ContainsFunc(b.Reserved, func(r netip.Prefix) bool { return r.Contains(addr) })
			at, was := m.freed[addr]
			if !used[addr] && !reserved && (!was || now.Sub(at) >= m.cooldown) {
				list = append(list, addr)
			}
		}
	}
	slices.SortFunc(list, func(a, b netip.Addr) int {
		if c := m.freed[a].Compare(m.freed[b]); c != 0 {
			return c
		}
		return a.Compare(b)
	})
	return list
}

func (m *model) hasBlock(is4 bool, pools []netip.Prefix) bool {
	return slices.ContainsFunc(m.blocks, func(b Block) bool {
		return b.CIDR.Addr().Is4() == is4 && (len(pools) == 0 || slices.Contains(pools, b.Pool))
	})
}

// allocate says what a request must get; an error is one of the sample errors.
func (m *model) allocate(r Request, now time.Time) ([]netip.Addr, error) {
	if len(r.Fixed) > 0 {
		return m.allocateFixed(r.Fixed)
	}
	var got []netip.Addr
	for _, is4 := range []bool{true, false} {
		if !m.hasBlock(is4, r.Pools) {
			if slices.ContainsFunc(r.Pools, func(p netip.Prefix) bool { return p.Addr().Is4() == is4 }) {
				return nil, &NoBlockError{}
			}
			continue
		}
		list := m.candidates(is4, r.Pools, now)
		if len(list) == 0 {
			return nil, &ExhaustedError{}
		}
		got = append(got, list[0])
	}
	if len(got) == 0 {
		return nil, &NoBlockError{}
	}
	return got, nil
}

func (m *model) allocateFixed(fixed []netip.Addr) ([]netip.Addr, error) {
	for _, addr := range fixed {
		if m.used()[addr] {
			return nil, &InUseError{}
		}
		if !slices.ContainsFunc(m.blocks, func(b Block) bool { return b.CIDR.Contains(addr) }) {
			return nil, &OutsideError{}
		}
	}
	return fixed, nil
}

// kindOf names the typed error that err is or wraps.
func kindOf(err error) string {
	switch {
	case err == nil:
		return "none"
	case isA[*ExhaustedError](err):
		return "exhausted"
	case isA[*NoBlockError](err):
		return "no block"
	case isA[*InUseError](err):
		return "in use"
	case isA[*OutsideError](err):
		return "outside"
	}
	return err.Error()
}

// TestPropertyModel runs random operations, restarts among them, on an allocator and on the model.
func TestPropertyModel(t *testing.T) {
	directory := t.TempDir()
	run := 0
	choices := []Block{
		{CIDR: prefix("10.48.0.64/30"), Pool: prefix("10.48.0.0/16"), Reserved: prefixes("10.48.0.65/32")},
		{CIDR: prefix("10.48.0.128/31"), Pool: prefix("10.48.0.0/16")},
		{CIDR: prefix("10.49.0.0/30"), Pool: prefix("10.49.0.0/24")},
		{CIDR: prefix("fd00::40/126"), Pool: prefix("fd00::/112")},
		{CIDR: prefix("fd00::80/127"), Pool: prefix("fd00::/112")},
	}
	rapid.Check(t, func(t *rapid.T) {
		run++
		path := filepath.Join(directory, fmt.Sprint(run))
		c := newClock()
		m := &model{cooldown: 30 * time.Second, pods: map[string]*modelPod{}, freed: map[netip.Addr]time.Time{}}
		options := Options{Clock: c.now, Cooldown: m.cooldown}
		var a *Allocator
		saved := m.onDisk()
		ok := func(err error) {
			if err != nil {
				t.Helper()
				t.Fatal(err)
			}
		}
		open := func() {
			var err error
			a, err = Open(path, options)
			ok(err)
			a.journal.db.NoSync = true // what the kernel has is enough as long as the machine runs
			ok(a.SetBlocks(m.blocks))
			m.forget(c.now())
		}
		setBlocks := func(t *rapid.T) {
			m.blocks = nil
			for _, b := range choices {
				if rapid.Bool().Draw(t, "leased") {
					m.blocks = append(m.blocks, b)
				}
			}
			ok(a.SetBlocks(rapid.Permutation(m.blocks).Draw(t, "blocks")))
			m.forget(c.now())
		}
		open()
		defer func() { ok(errors.Join(a.Close(), os.Remove(path))) }()
		setBlocks(t)

		names := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f", "g", "h"})
		containers := rapid.SampledFrom([]string{"1", "2", "3", "4"})
		t.Repeat(map[string]func(*rapid.T){
			"Allocate": func(t *rapid.T) {
				name, r := names.Draw(t, "pod"), Request{}
				switch rapid.IntRange(0, 4).Draw(t, "kind") {
				case 0:
					r.Pools = rapid.SliceOfNDistinct(rapid.SampledFrom(prefixes("10.48.0.0/16", "10.49.0.0/24", "fd00::/112", "10.50.0.0/16")), 1, 3, rapid.ID).Draw(t, "pools")
				case 1:
					r.Fixed = rapid.SliceOfNDistinct(rapid.SampledFrom(addrs("10.48.0.64", "10.48.0.65", "10.48.0.129", "fd00::41", "10.50.0.1")), 1, 2, rapid.ID).Draw(t, "fixed")
					slices.SortFunc(r.Fixed, netip.Addr.Compare)
				}
				p, exists := m.pods[name]
				var want []netip.Addr
				var wantErr error
				if exists {
					want = p.addrs
				} else {
					m.settle(c.now())
					want, wantErr = m.allocate(r, c.now())
				}
				got, err := a.Allocate(pod(name), r)
				if kindOf(err) != kindOf(wantErr) || !slices.Equal(got, want) {
					t.Fatalf("Allocate(%s, %v): got %v, %v, want %v, %v", name, r, got, err, want, wantErr)
				}
				if !exists && err == nil {
					m.pods[name] = &modelPod{addrs: want, attachments: map[string]bool{}, since: c.now()}
					for _, addr := range want {
						delete(m.freed, addr)
					}
				}
			},
			"Attach": func(t *rapid.T) {
				name, id := names.Draw(t, "pod"), containers.Draw(t, "container")
				p, exists := m.pods[name]
				foreign := slices.ContainsFunc(slices.Collect(maps.Values(m.pods)), func(o *modelPod) bool { return o != p && o.attachments[id] })
				err := a.Attach(pod(name), id)
				if (err == nil) != (exists && !foreign) {
					t.Fatalf("Attach(%s, %s): %v; holds addresses: %v, attached to another: %v", name, id, err, exists, foreign)
				}
				if err == nil {
					p.attachments[id] = true
				}
			},
			"Detach": func(t *rapid.T) {
				id, want := containers.Draw(t, "container"), false
				for _, p := range m.pods {
					want = want || p.attachments[id]
					delete(p.attachments, id)
				}
				got, err := a.Detach(id)
				ok(err)
				if got != want {
					t.Fatalf("Detach(%s) found: %v, want %v", id, got, want)
				}
				if want {
					m.settle(c.now())
				}
			},
			"GC": func(t *rapid.T) {
				valid := rapid.SliceOf(containers).Draw(t, "valid")
				for _, p := range m.pods {
					maps.DeleteFunc(p.attachments, func(id string, _ bool) bool { return !slices.Contains(valid, id) })
				}
				ok(a.GC(valid))
				m.settle(c.now())
			},
			"SetLive": func(t *rapid.T) {
				live := rapid.SliceOfDistinct(names, rapid.ID).Draw(t, "live")
				m.liveKnown = true
				var uids []string
				for _, name := range live {
					uids = append(uids, pod(name).UID)
				}
				for name, p := range m.pods {
					p.live = slices.Contains(live, name)
					p.named = p.named || p.live
				}
				ok(a.SetLive(uids))
				m.settle(c.now())
			},
			"SetBlocks": setBlocks,
			"Advance": func(t *rapid.T) {
				c.advance(time.Duration(rapid.IntRange(1, 40).Draw(t, "seconds")) * time.Second)
			},
			"Reopen": func(t *rapid.T) {
				ok(a.Close())
				saved = m.onDisk()
				open()
				m.liveKnown = false
				for _, p := range m.pods {
					p.live, p.named, p.since = false, true, c.now()
				}
				setBlocks(t)
			},
			"Save": func(*rapid.T) {
				ok(a.Save(context.Background(), a.Mark()))
				saved = m.onDisk()
			},
			"Reload": func(*rapid.T) {
				ok(a.Save(context.Background(), a.Mark()))
				saved = m.onDisk()
				ok(a.reload())
			},
			"Crash": func(t *rapid.T) { // what was not saved is forgotten as if it had never been
				ok(a.journal.close())
				m.pods, m.freed = saved.pods, saved.freed
				open()
				m.liveKnown = false
				for _, p := range m.pods {
					p.live, p.named, p.since = false, true, c.now()
				}
				setBlocks(t)
				saved = m.onDisk()
				ok(a.Save(context.Background(), a.Mark()))
			},
			"": func(t *rapid.T) {
				want := []Allocation{}
				for _, name := range slices.Sorted(maps.Keys(m.pods)) {
					p := m.pods[name]
					want = append(want, Allocation{Owner: pod(name), Addresses: p.addrs, Attachments: slices.Sorted(maps.Keys(p.attachments)), Live: p.live || !m.liveKnown})
				}
				got := a.Allocations()
				for i := range got {
					if len(got[i].Attachments) == 0 {
						got[i].Attachments = nil
					}
				}
				if diff := cmp.Diff(want, got, compareAddrs()); diff != "" {
					t.Fatalf("allocations (-want +got):\n%s", diff)
				}
				for _, use := range a.Blocks() {
					if use.InUse+use.Cooling+use.Reserved+use.Free != use.Size {
						t.Fatalf("the parts do not sum up: %+v", use)
					}
				}
			},
		})
	})
}
