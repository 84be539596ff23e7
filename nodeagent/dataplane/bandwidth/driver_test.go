package bandwidth

import (
	"context"
	"errors"
	"io"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/netns"
)

// node is a node with one pod behind caliweb.
type node struct {
	*netns.NS
	t   *testing.T
	pod *netns.NS
	d   *Driver
}

// patience bounds the wait for what must come about.
const patience = time.Minute

const nodeAddr, podAddr = "10.48.0.1", "10.48.0.2"

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{NS: netns.New(t), t: t}
	n.open()
	t.Cleanup(func() { _ = n.d.Close() })
	n.start()
	return n
}

func (n *node) open() {
	n.t.Helper()
	n.Must("opening the driver", func() (err error) {
		n.d, err = New(Options{WorkloadPrefix: "cali"})
		return err
	})
}

// start makes the pod and its interface.
func (n *node) start() {
	n.t.Helper()
	n.pod = netns.New(n.t)
	n.Veth("caliweb", n.pod, "eth0")
	n.Address("caliweb", nodeAddr+"/24")
	n.pod.Address("eth0", podAddr+"/24")
}

// limits are what tc and ip show, so that somebody else than the driver says what is in the kernel.
func (n *node) limits() string {
	n.t.Helper()
	var out []byte
	n.Must("reading traffic control", func() (err error) {
		out, err = exec.Command("sh", "-c", "tc qdisc show | grep -E 'tbf|ingress' | sed 's/ refcnt [0-9]*//; s/  *$//' | sort").Output()
		return err
	})
	return strings.TrimSpace(string(out))
}

// pace is the rate at which bytes pass from one namespace to another, bits per second, from before the connection is made: what has passed
// before somebody looks is not counted as faster than it was.
func (n *node) pace(from, to *netns.NS, at string, bytes int64) float64 {
	n.t.Helper()
	var listener net.Listener
	to.Must("listening", func() (err error) {
		listener, err = new(net.ListenConfig).Listen(context.Background(), "tcp", net.JoinHostPort(at, "0"))
		return err
	})
	defer listener.Close()
	took, began := make(chan time.Duration, 1), time.Now()
	go func() {
		c, err := listener.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		if got, _ := io.Copy(io.Discard, c); got == bytes {
			took <- time.Since(began)
		}
	}()
	from.Must("sending", func() error {
		c, err := net.DialTimeout("tcp", listener.Addr().String(), patience)
		if err != nil {
			return err
		}
		_, err = c.Write(make([]byte, bytes))
		return errors.Join(err, c.Close())
	})
	select {
	case d := <-took:
		return float64(bytes) * 8 / d.Seconds()
	case <-time.After(patience):
		n.t.Fatal("the bytes did not arrive")
		return 0
	}
}

// fast checks that bytes can pass at a rate. A machine that does much else may need several attempts.
func (n *node) fast(from, to *netns.NS, at string, bytes int64, rate float64) {
	n.t.Helper()
	const attempts = 20
	best := 0.0
	for range attempts {
		if best = max(best, n.pace(from, to, at, bytes)); best >= rate {
			return
		}
	}
	n.t.Errorf("to %s pass %.0f bit/s at best, want %.0f", at, best, rate)
}

func (n *node) apply(desired *tables.Bandwidth) {
	n.t.Helper()
	n.Must("applying", func() error { return n.d.Apply(n.t.Context(), desired) })
}

const rate, burst = 16_000_000, 800_000

func both() tables.Limits {
	return tables.Limits{Ingress: tables.Limit{BitsPerSecond: rate, BurstBits: burst}, Egress: tables.Limit{BitsPerSecond: rate / 2, BurstBits: burst}}
}

// want is what tc shows of limits.
func want(ingress, egress bool) string {
	var lines []string
	if ingress {
		lines = append(lines, "qdisc tbf 4d4c: dev caliweb root rate 16Mbit burst 100000b lat 25ms")
	}
	if egress {
		lines = append(lines, "qdisc ingress ffff: dev caliweb parent ffff:fff1 ----------------", "qdisc tbf 4d4c: dev mnlqweb root rate 8Mbit burst 100000b lat 25ms")
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func (n *node) expect(what, want string) {
	n.t.Helper()
	if got := n.limits(); got != want {
		n.t.Errorf("%s: the kernel has\n%s\nwant\n%s", what, got, want)
	}
}

func TestLimitsAreInForce(t *testing.T) {
	n := newNode(t)
	desired := tables.NewBandwidth()
	desired.Set("caliweb", both())
	n.apply(desired)
	n.expect("both directions", want(true, true))
	const bytes, slack = 1 << 20, 1.15 // the burst passes at once
	if got := n.pace(n.NS, n.pod, podAddr, bytes); got > rate*slack {
		t.Errorf("to the pod pass %.0f bit/s, want at most %d", got, rate)
	}
	if got := n.pace(n.pod, n.NS, nodeAddr, bytes); got > rate/2*slack*slack {
		t.Errorf("from the pod pass %.0f bit/s, want at most %d", got, rate/2)
	}
	desired.Delete("caliweb")
	n.apply(desired)
	n.expect("none", want(false, false))
	n.fast(n.pod, n.NS, nodeAddr, bytes, rate*2) // without a limit
}

// A burst passes no faster than the peak rate, in either direction. tc tells what the kernel has, and shows
// the least burst in ticks.
func TestPeakRates(t *testing.T) {
	n := newNode(t)
	const bytes, peak, most = 1 << 20, 20_000_000, 1.15
	whole := tables.Limit{BitsPerSecond: 1_000_000, BurstBits: 16 * bytes} // all of it passes at once
	peaked := whole
	peaked.PeakBitsPerSecond = peak
	desired := tables.NewBandwidth()
	for _, test := range []struct {
		name            string
		ingress, egress tables.Limit
		tc              string
	}{
		{"none", whole, whole, "rate 1Mbit burst 2Mb lat 25ms"},
		{"both", peaked, peaked, "rate 1Mbit burst 2Mb peakrate 20Mbit minburst 151"},
		{"none again", whole, whole, "rate 1Mbit burst 2Mb lat 25ms"},
	} {
		desired.Set("caliweb", tables.Limits{Ingress: test.ingress, Egress: test.egress})
		n.apply(desired)
		if got := n.limits(); strings.Count(got, test.tc) != 2 {
			t.Errorf("%s: the kernel has\n%s\nwant %q twice", test.name, got, test.tc)
		}
		for _, way := range []struct {
			name     string
			from, to *netns.NS
			at       string
		}{{"to the pod", n.NS, n.pod, podAddr}, {"from the pod", n.pod, n.NS, nodeAddr}} {
			if test.ingress != peaked {
				n.fast(way.from, way.to, way.at, bytes, 2*peak)
			} else if got := n.pace(way.from, way.to, way.at, bytes); got > peak*most {
				t.Errorf("%s: %s pass %.0f bit/s", test.name, way.name, got)
			}
		}
		desired.Delete("caliweb")
		n.apply(desired)
	}
	desired.Set("caliweb", tables.Limits{Ingress: tables.Limit{BitsPerSecond: 1_000_000, BurstBits: 800_000, PeakBitsPerSecond: 8_000_000, MinBurstBytes: 9000}})
	n.apply(desired)
	if got := n.limits(); !strings.Contains(got, "peakrate 8Mbit minburst 9000b") {
		t.Errorf("the kernel has %s", got)
	}
}

func TestLimitsFollowTheTables(t *testing.T) {
	n := newNode(t)
	desired := tables.NewBandwidth()
	one := func(l tables.Limits) { desired.Set("caliweb", l); n.apply(desired) }
	one(tables.Limits{Ingress: both().Ingress})
	n.expect("ingress alone", want(true, false))
	one(tables.Limits{Egress: both().Egress})
	n.expect("egress alone", want(false, true))
	one(both())
	n.expect("both", want(true, true))

	// The same again changes nothing, and neither does a restart.
	n.apply(desired)
	n.expect("applied again", want(true, true))
	_ = n.d.Close()
	n.open()
	desired.MarkDirty("caliweb")
	n.apply(desired)
	n.expect("after a restart", want(true, true))

	// What somebody removed comes back when everything is compared.
	n.Must("removing", func() error {
		return exec.Command("sh", "-c", "tc qdisc del dev caliweb root; tc qdisc del dev caliweb ingress").Run()
	})
	n.d.Resync()
	n.apply(desired)
	n.expect("removed by somebody", want(true, true))

	// What an earlier process left is removed.
	_ = n.d.Close()
	n.open()
	n.apply(tables.NewBandwidth())
	n.expect("left by an earlier process", want(false, false))
}

// The limits come with the interface: the pod may start after they are known.
func TestLimitsWaitForTheInterface(t *testing.T) {
	n := newNode(t)
	n.Must("removing the pod's interface", func() error {
		link, err := netlink.LinkByName("caliweb")
		return errors.Join(err, netlink.LinkDel(link))
	})
	desired := tables.NewBandwidth()
	desired.Set("caliweb", both())
	n.apply(desired)
	n.expect("no interface", want(false, false))
	for range 2 { // the second time another sandbox of the same pod
		n.start()
		n.becomes(desired, "the interface came", want(true, true))
		n.Must("removing the pod's interface", func() error {
			link, err := netlink.LinkByName("caliweb")
			return errors.Join(err, netlink.LinkDel(link))
		})
		n.becomes(desired, "the interface went", want(false, false))
	}
}

// becomes applies whenever the driver says so, until the kernel has what is wanted, and then until the driver says no more.
func (n *node) becomes(desired *tables.Bandwidth, what, want string) {
	n.t.Helper()
	const quiet = 200 * time.Millisecond
	for wait := patience; ; {
		select {
		case <-n.d.Changed():
			n.apply(desired)
		case <-time.After(wait):
			n.expect(what, want)
			return
		}
		if n.limits() == want {
			wait = quiet
		}
	}
}

// What others have on the interface stays, and what stands in the way is told as the endpoint's.
func TestOthersAreLeftAlone(t *testing.T) {
	n := newNode(t)
	n.Must("others' limits", func() error {
		return exec.Command("sh", "-ec", "ip link add veth0 type veth peer name veth1; tc qdisc add dev veth0 root tbf rate 1mbit burst 32kbit latency 25ms; ip link add mnlqdb type veth peer name veth2").Run()
	})
	before := n.limits()
	desired := tables.NewBandwidth()
	desired.Set("caliweb", both())
	n.apply(desired)
	desired.Delete("caliweb")
	n.apply(desired)
	n.expect("others'", before)

	n.Must("a second pod", func() error {
		return exec.Command("ip", "link", "add", "calidb", "type", "veth", "peer", "name", "veth3").Run()
	})
	desired.Set("caliweb", both())
	desired.Set("calidb", both())
	var err error
	n.Do(func() { err = n.d.Apply(t.Context(), desired) })
	item, ok := errors.AsType[*tables.ItemError](err)
	if !ok || item.Kind != tables.KindBandwidth || item.Name != "calidb" || !strings.Contains(err.Error(), "the name is taken") {
		t.Errorf("got %v, want a failure of calidb that says what is in the way", err)
	}
	if got := n.limits(); !strings.Contains(got, "mnlqweb") {
		t.Errorf("the other endpoint's limits are not in force:\n%s", got)
	}

	// It is told of while others change, which has nothing compared.
	desired.Delete("caliweb")
	n.Do(func() { err = n.d.Apply(t.Context(), desired) })
	if item, ok := errors.AsType[*tables.ItemError](err); !ok || item.Name != "calidb" {
		t.Errorf("another endpoint's limits go: got %v, want the failure of calidb still", err)
	}
	if n.d.resync.Load() {
		t.Error("the next change would have everything compared")
	}
	desired.Delete("calidb")
	n.apply(desired)
}
