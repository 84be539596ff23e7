package main

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/manul-net/manul/test/netns"
)

// TestKnocks: of the connections to a server those come about that are begun while its network takes them, and no others, whether it answers, refuses or says
// nothing. Handshakes alone do not wake the server, keep no port, and data is echoed all the same.
func TestKnocks(t *testing.T) {
	a, b := netns.New(t), netns.New(t)
	a.Veth("eth0", b, "eth0")
	a.Address("eth0", "192.0.2.1/24")
	b.Address("eth0", "192.0.2.2/24")
	program := filepath.Join(t.TempDir(), "prober")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("building the prober: %v\n%s", err, out)
	}
	server := exec.CommandContext(t.Context(), program, "serve", "-knocks", ":81")
	b.Must("starting the prober", server.Start)
	t.Cleanup(func() { _ = server.Wait() }) // its context has ended it
	knock := func(to, length, timeout string) []Attempt {
		t.Helper()
		var out, stderr bytes.Buffer
		cmd := exec.CommandContext(t.Context(), program, "knock", "-realtime", "-every", "1ms", "-timeout", timeout, "-for", length, to)
		cmd.Stdout, cmd.Stderr = &out, &stderr
		a.Must("starting a prober", cmd.Start)
		if err := cmd.Wait(); err != nil {
			t.Fatalf("%v: %s", err, stderr.String())
		}
		var all []Attempt
		for lines := json.NewDecoder(&out); lines.More(); {
			var one Attempt
			if err := lines.Decode(&one); err != nil {
				t.Fatal(err)
			}
			all = append(all, one)
		}
		return all
	}
	came := func(all []Attempt) (n int) {
		for _, one := range all {
			if one.OK {
				n++
			}
		}
		return n
	}

	for deadline := time.Now().Add(30 * time.Second); came(knock("192.0.2.2:81", "20ms", "20ms")) == 0; {
		if time.Now().After(deadline) {
			t.Fatal("no connection to the server came about")
		}
	}
	all := knock("192.0.2.2:81", "500ms", "10s")
	if came(all) < len(all) || len(all) == 0 {
		t.Errorf("%d of %d came about", came(all), len(all))
	}
	if !slices.IsSortedFunc(all, func(a, b Attempt) int { return int(a.Start - b.Start) }) {
		t.Error("they are not told in order of beginning")
	}
	for _, to := range []string{"192.0.2.2:82", "192.0.2.3:81"} { // nobody listens, nobody is there
		if all := knock(to, "500ms", "100ms"); came(all) != 0 || len(all) == 0 {
			t.Errorf("%s: %d of %d came about", to, came(all), len(all))
		}
	}
	for _, ns := range []*netns.NS{a, b} {
		ns.Do(func() {
			sockets, err := os.ReadFile("/proc/thread-self/net/tcp")
			if err != nil {
				t.Errorf("reading the sockets: %v", err)
			}
			for line := range strings.Lines(string(sockets)) {
				if fields := strings.Fields(line); strings.HasSuffix(fields[1], ":0051") && fields[3] != "0A" || strings.HasSuffix(fields[2], ":0051") {
					t.Errorf("a connection is still there: %s", line)
				}
			}
		})
	}
}

func TestKnocksThatCannotBe(t *testing.T) {
	for what, k := range map[string]knocks{
		"a name":    {address: "server:80", every: 1, length: 1, timeout: 1},
		"too often": {address: "192.0.2.1:80", every: 1, length: time.Second, timeout: time.Second},
		"no pause":  {address: "192.0.2.1:80", length: time.Second, timeout: time.Second},
		"no wait":   {address: "192.0.2.1:80", every: time.Second, length: time.Second},
		"no time":   {address: "192.0.2.1:80", every: time.Second, timeout: time.Second},
	} {
		if err := k.run(t.Context()); err == nil || !strings.Contains(err.Error(), "want") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestKnockerMakesUpForNothing: of the ticks that a knocker missed none comes later.
func TestKnockerMakesUpForNothing(t *testing.T) {
	const every = 10 * time.Millisecond
	began := monotonic()
	k := newKnocker(netip.MustParseAddrPort("127.0.0.1:1"), 0, began-100*every, every, time.Second, 2)
	if err := k.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(k.done) != 2 || k.next <= began {
		t.Errorf("%d knocks, and the next is due %s before the first", len(k.done), began-k.next)
	}
}
