package changeover_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manul-net/manul/nodeagent/dataplane/changeover"
	"github.com/manul-net/manul/nodeagent/tables"
)

const (
	nft  = tables.NFTables
	ipt  = tables.IPTables
	auto = tables.Dataplane("")
)

var errBroken = errors.New("broken")

// The flag comes before the settings, these before kube-proxy, and nftables is used where nobody says anything.
func TestChoice(t *testing.T) {
	for name, tc := range map[string]struct{ fixed, setting, proxy, want tables.Dataplane }{
		"nobody says anything":              {auto, auto, auto, nft},
		"kube-proxy has iptables":           {auto, auto, ipt, ipt},
		"kube-proxy has nftables":           {auto, auto, nft, nft},
		"settings before kube-proxy":        {auto, nft, ipt, nft},
		"settings alone":                    {auto, ipt, auto, ipt},
		"the flag before settings":          {nft, ipt, ipt, nft},
		"the flag before all, the other":    {ipt, nft, nft, ipt},
		"the flag where others say nothing": {ipt, auto, auto, ipt},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, changeover.Options{Fixed: tc.fixed})
			n.kubeProxy(tc.proxy)
			if got := n.driver.Using(); got != "" {
				t.Errorf("using %q before anything was applied", got)
			}
			rest := map[tables.Dataplane]string{nft: "iptables", ipt: "nftables"}[tc.want]
			// What an earlier process left of the other one goes when this one is in force.
			n.wants(tc.setting, tc.want, "open "+string(tc.want), "apply "+string(tc.want), "remove "+rest)
			n.wants(tc.setting, tc.want, "apply "+string(tc.want))
		})
	}
}

// The new dataplane is in force completely before anything of the old one goes.
func TestOrderOfChange(t *testing.T) {
	n := newNode(t, changeover.Options{})
	n.wants(nft, nft, "open nftables", "apply nftables", "remove iptables")
	n.wants(ipt, ipt, "open iptables", "apply iptables", "close nftables", "remove nftables")
	n.wants(ipt, ipt, "apply iptables")
	n.wants(nft, nft, "open nftables", "apply nftables", "close iptables", "remove iptables")
	n.driver.Resync()
	n.wants(nft, nft, "resync nftables", "apply nftables")
}

// A single item that is refused keeps no dataplane from taking over.
func TestRefusedItems(t *testing.T) {
	n := newNode(t, changeover.Options{})
	n.wants(nft, nft, "open nftables", "apply nftables", "remove iptables")
	n.failing("apply iptables", errors.Join(&tables.ItemError{Kind: tables.KindProgram, Name: "p", Err: errBroken}))
	got, err := n.apply(ipt)
	if want := "open iptables, apply iptables, close nftables, remove nftables"; strings.Join(got, ", ") != want || n.driver.Using() != ipt {
		t.Errorf("done: %v, want %s; using %s", got, want, n.driver.Using())
	}
	if item := (*tables.ItemError)(nil); !errors.As(err, &item) || item.Kind != tables.KindProgram {
		t.Errorf("Apply = %v, want the refused program", err)
	}
}

// A dataplane that can't be used leaves the one in use in force, and is reported; it is tried again a minute later.
func TestUnusableDataplane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, broken := range []string{"open iptables", "apply iptables"} {
			n := newNode(t, changeover.Options{})
			n.wants(nft, nft, "open nftables", "apply nftables", "remove iptables")
			n.failing(broken, errBroken)
			tried := []string{"open iptables"}
			if broken == "apply iptables" {
				tried = append(tried, "apply iptables", "close iptables")
			}
			// It may have got half-way.
			n.wantsItem(ipt, nft, ipt, append(tried, "apply nftables", "remove iptables")...)
			n.wantsItem(ipt, nft, ipt, "apply nftables")
			pause(2 * time.Minute)
			n.wantsItem(ipt, nft, ipt, append(tried, "apply nftables", "remove iptables")...)
			n.wants(nft, nft, "apply nftables") // nobody wants it any more
			n.failing(broken, nil)
			n.wants(ipt, ipt, "open iptables", "apply iptables", "close nftables", "remove nftables")
		}
	})
}

// A node whose dataplane can't be used from the beginning has policy all the same, by the other one.
func TestUnusableFromTheBeginning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, changeover.Options{Fixed: ipt})
		n.failing("open iptables", errBroken)
		n.wantsItem(auto, nft, ipt, "open iptables", "open nftables", "apply nftables", "remove iptables")
		n.failing("open iptables", nil)
		n.wantsItem(auto, nft, ipt, "apply nftables")
		pause(2 * time.Minute)
		n.wants(auto, ipt, "open iptables", "apply iptables", "close nftables", "remove nftables")
	})
}

// With neither, everything fails, and is tried again at once.
func TestNeitherDataplane(t *testing.T) {
	n := newNode(t, changeover.Options{})
	n.failing("open iptables", errBroken)
	n.failing("open nftables", errBroken)
	got, err := n.apply(auto)
	if !errors.Is(err, errBroken) || errors.As(err, new(*tables.ItemError)) || n.driver.Using() != "" {
		t.Errorf("Apply = %v, done: %v, using %q; want a failure as a whole", err, got, n.driver.Using())
	}
	n.failing("open nftables", nil)
	n.wants(auto, nft, "open nftables", "apply nftables", "remove iptables")
}

// A failure of the dataplane in use is a failure as a whole, and brings no change.
func TestFailureOfTheOneInUse(t *testing.T) {
	n := newNode(t, changeover.Options{})
	n.wants(nft, nft, "open nftables", "apply nftables", "remove iptables")
	n.failing("apply nftables", errBroken)
	got, err := n.apply(nft)
	if !errors.Is(err, errBroken) || strings.Join(got, ", ") != "apply nftables" || n.driver.Using() != nft {
		t.Errorf("Apply = %v, done: %v, using %q", err, got, n.driver.Using())
	}
	n.failing("apply nftables", nil)
	n.wants(nft, nft, "apply nftables")
}

// Leftovers that can't be removed are reported, since their rules are in force; they are tried again a minute later.
func TestLeftoversThatStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, changeover.Options{})
		n.failing("remove iptables", errBroken)
		n.wantsItem(nft, nft, ipt, "open nftables", "apply nftables", "remove iptables")
		n.wantsItem(nft, nft, ipt, "apply nftables")
		pause(2 * time.Minute)
		n.failing("remove iptables", nil)
		n.wants(nft, nft, "apply nftables", "remove iptables")
		n.wants(nft, nft, "apply nftables")
	})
}

// A change that is interrupted is no failure of the dataplane.
func TestInterruptedChange(t *testing.T) {
	n := newNode(t, changeover.Options{})
	n.wants(nft, nft, "open nftables", "apply nftables", "remove iptables")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	n.failing("apply iptables", context.Canceled)
	p := tables.NewPolicy()
	p.Settings.Dataplane = ipt
	if err := n.driver.Apply(ctx, p); !errors.Is(err, context.Canceled) || n.driver.Using() != nft {
		t.Errorf("Apply = %v, using %q", err, n.driver.Using())
	}
	n.failing("apply iptables", nil)
	n.wants(ipt, ipt, "resync nftables", "open iptables", "apply iptables", "close nftables", "remove nftables")
}

// While the choice is kube-proxy's, its change of mode is noticed, and followed.
func TestFollowingKubeProxy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, changeover.Options{})
		n.wants(auto, nft, "open nftables", "apply nftables", "remove iptables")
		n.kubeProxy(ipt)
		began := time.Now()
		<-n.driver.Changed()
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("noticed after %v", took)
		}
		n.wants(auto, ipt, "open iptables", "apply iptables", "close nftables", "remove nftables")
		n.kubeProxy(auto) // between two modes it has no rules
		pause(time.Minute)
		n.wants(auto, ipt, "apply iptables")
		n.kubeProxy(nft)
		n.changed()
		n.wants(auto, nft, "open nftables", "apply nftables", "close iptables", "remove iptables")

		n.wants(ipt, ipt, "open iptables", "apply iptables", "close nftables", "remove nftables")
		n.kubeProxy(ipt) // nobody asks while the settings say what to use
		pause(time.Minute)
		select {
		case <-n.driver.Changed():
			t.Error("kube-proxy's change is noticed though it does not matter")
		default:
		}
		n.wants(auto, ipt, "apply iptables") // and asks at once when it matters again
	})
}

// The longer it takes to ask for kube-proxy's mode, because it has many rules, the seldomer that is asked.
func TestAskingForKubeProxyTakesItsPartOfTheTime(t *testing.T) {
	for takes, want := range map[time.Duration][2]int64{0: {359, 361}, 50 * time.Millisecond: {35, 37}, 30 * time.Second: {5, 7}} {
		synctest.Test(t, func(t *testing.T) {
			var asked atomic.Int64
			n := newNode(t, changeover.Options{Detect: func(context.Context) tables.Dataplane {
				asked.Add(1)
				pause(takes)
				return nft
			}})
			n.wants(auto, nft, "open nftables", "apply nftables", "remove iptables")
			before := asked.Load()
			pause(time.Hour)
			if got := asked.Load() - before; got < want[0] || got > want[1] {
				t.Errorf("when asking takes %s it was asked %d times in an hour, want %d to %d", takes, got, want[0], want[1])
			}
		})
	}
}

// What a dataplane tells is passed on, and what it counts stays counted when it is given up.
func TestDisturbances(t *testing.T) {
	n := newNode(t, changeover.Options{})
	n.wants(nft, nft, "open nftables", "apply nftables", "remove iptables")
	n.plane(nft).changed <- struct{}{}
	n.changed()
	n.plane(nft).disturbed = 3
	if got := n.driver.Disturbances(); got != 3 {
		t.Errorf("%d disturbances, want 3", got)
	}
	n.wants(ipt, ipt, "open iptables", "apply iptables", "close nftables", "remove nftables")
	n.plane(ipt).disturbed = 2
	if got := n.driver.Disturbances(); got != 5 {
		t.Errorf("%d disturbances, want 5", got)
	}
	n.plane(ipt).changed <- struct{}{}
	n.changed()
}
