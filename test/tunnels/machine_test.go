package tunnels

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/manul-net/manul/test/apiserver"
)

// ipipTests need a kernel with IPIP.
const ipipTests = "TestEveryMode/IPIP|TestPacketsToBorrowedAddresses/IPIP|TestChangeFromIPIPToVXLAN|TestMTU/IPIP"

// TestOnAMachineOfItsOwn runs the tests of IPIP on an emulated machine with Debian's kernel.
func TestOnAMachineOfItsOwn(t *testing.T) {
	onAMachine(t, ipipTests, 4)
}

// ipvsOnAMachine runs the test of kube-proxy's mode ipvs, with kube-proxy and what it needs.
func ipvsOnAMachine(t *testing.T) {
	t.Helper()
	files := []string{apiserver.Program(t, "kube-proxy") + ":/bin/kube-proxy", "/etc/protocols"}
	for _, name := range []string{"ipset", "iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"} {
		files = append(files, "/usr/sbin/"+name)
	}
	libraries, err := filepath.Glob("/usr/lib/*/xtables")
	if err != nil {
		t.Fatal(err)
	}
	onAMachine(t, "TestPolicyWithIPVS$", 1, append(files, libraries...)...)
}

// onAMachine runs some tests of this package on such a machine, which has some files beside. So many tests have to pass.
func onAMachine(t *testing.T, tests string, want int, files ...string) {
	t.Helper()
	if os.Getenv("MANUL_MACHINE") != "" {
		t.Skip("this is that machine")
	}
	if testing.Short() || os.Geteuid() != 0 {
		t.Skip("the machine takes a minute, and its tests are the kernel's: they need root")
	}
	for _, program := range []string{"qemu-system-x86_64", "cpio"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%v: hack/install-packages.sh installs it", err)
		}
	}
	program := filepath.Join(t.TempDir(), "tunnels.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-ldflags=-s -w", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the tests: %v\n%s", err, out)
	}
	machine := exec.CommandContext(t.Context(), "../../hack/machine.sh", program, "-test.v", "-test.timeout=1170s", "-test.run="+tests)
	machine.Env = append(os.Environ(), "MACHINE_TIMEOUT=1200", "MACHINE_FILES="+strings.Join(files, " "))
	out, err := machine.CombinedOutput()
	passed := regexp.MustCompile(`(?m)^--- PASS: `).FindAll(out, -1)
	if err != nil || len(passed) != want || regexp.MustCompile(`--- SKIP: `).Match(out) {
		t.Errorf("tests on the machine: %v, %d of %d passed\n%s", err, len(passed), want, out)
	}
}
