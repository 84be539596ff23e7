package daemon

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/manul-net/manul/cni/protocol"
	"github.com/manul-net/manul/nodeagent/dataplane/loops"
	"github.com/manul-net/manul/nodeagent/dataplane/packetlimits"
	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/netns"
)

// TestReadmeTakesAwayWhatAgentsLeave: after README's commands "on each node" no table, device, route or rule of the agents is left.
func TestReadmeTakesAwayWhatAgentsLeave(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, commands, _ := strings.Cut(string(readme), "# on each node:\n")
	commands, files, found := strings.Cut(commands, "    rm -f ") // files are the machine's own here
	if !found || !strings.HasPrefix(files, "/etc/cni/net.d/") {
		t.Fatalf("README's commands on each node end otherwise: %q", files)
	}
	node := netns.New(t)
	node.Sysctl("ipv6/conf/default/addr_gen_mode", "1") // no link-local addresses, which the kernel takes into use in its own time
	node.Veth("d0", node, "d1")
	node.Address("d0", "10.0.0.1/24", "fd00::1/64")
	node.Up("d0")
	node.Up("d1")
	shell := func(script string) string {
		t.Helper()
		var out []byte
		var err error
		node.Do(func() { out, err = exec.CommandContext(t.Context(), "sh", "-c", script).CombinedOutput() })
		if err != nil {
			t.Fatalf("%s: %v: %s", script, err, out)
		}
		return string(out)
	}
	look := "nft list tables; ip -o link; ip -4 rule; ip -6 rule; ip -4 route show table all; ip -6 route show table all"
	before := shell(look)

	shell("nft add table inet manul; nft add table inet " + packetlimits.Table)
	for _, kind := range tables.TunnelKinds() {
		shell("ip link add " + kind.Device() + " type veth peer name peer" + fmt.Sprint(int(kind)))
	}
	for family, at := range map[string]string{"-4": "10.%d.0.0/24", "-6": "fd%02d::/64"} {
		for protocol, n := range map[int]int{protocol.RouteProtocol: 10, protocol.LearnedRouteProtocol: 11} {
			shell(fmt.Sprintf("ip %s route add blackhole "+at+" proto %d", family, n, protocol))
		}
		shell(fmt.Sprintf("ip %s route add unreachable "+at+" proto static table %d", family, 12, loops.Table))
		shell(fmt.Sprintf("ip %s rule add not iif lo lookup %d priority %d", family, loops.Table, loops.Priority))
	}
	if shell(look) == before {
		t.Fatal("nothing of the agents is there")
	}
	shell(commands)
	if after := shell(look); after != before {
		t.Errorf("before there was\n%s\nand is\n%s", before, after)
	}
}
