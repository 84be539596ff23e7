package agent

import (
	"strings"
	"testing"
	"time"
)

// TestKubeProxyInModeIPVSIsAFailure: policies are not asked about what it passes on, and nobody shall think that they are in force.
func TestKubeProxyInModeIPVSIsAFailure(t *testing.T) {
	bubble(t, func(t *testing.T, l *lab) {
		l.sync(l.state(1, nil))
		pause(2 * time.Second)
		if failures := l.source.last(t).Status.Failures; len(failures) > 0 {
			t.Errorf("failures before: %v", failures)
		}
		l.interfaces.set("kube-ipvs0", "10.49.0.1")
		pause(2 * time.Second)
		failures := l.source.last(t).Status.Failures
		if len(failures) != 1 || failures[0].Kind != "KubeProxy" || !strings.Contains(failures[0].Message, "nftables or iptables") {
			t.Errorf("failures with IPVS: %v", failures)
		}
	})
}
