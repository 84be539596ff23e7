package tunnels

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// ipipTests need a kernel with IPIP.
const ipipTests = "TestEveryMode/IPIP|TestPacketsToBorrowedAddresses/IPIP|TestChangeFromIPIPToVXLAN|TestMTU/IPIP"

// TestOnAMachineOfItsOwn runs the tests of IPIP on an emulated machine with Debian's kernel.
func TestOnAMachineOfItsOwn(t *testing.T) {
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
	out, err := exec.CommandContext(t.Context(), "../../hack/machine.sh", program, "-test.v", "-test.timeout=240s", "-test.run="+ipipTests).CombinedOutput()
	passed := regexp.MustCompile(`(?m)^--- PASS: `).FindAll(out, -1)
	if err != nil || len(passed) != 4 || regexp.MustCompile(`--- SKIP: `).Match(out) {
		t.Errorf("tests on the machine: %v, %d of 4 passed\n%s", err, len(passed), out)
	}
}
