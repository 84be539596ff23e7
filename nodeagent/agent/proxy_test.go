package agent

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/manul-net/manul/nodeagent/render"
	"github.com/manul-net/manul/nodeagent/tables"
)

// TestKubeProxyInModeIPVS: the dataplane that can't judge what IPVS passes on says so, and nobody shall think that policies are in force.
// The one that can has to be told that there is any first.
func TestKubeProxyInModeIPVS(t *testing.T) {
	for dataplane, fails := range map[tables.Dataplane]bool{tables.NFTables: false, tables.IPTables: true, "": true} {
		t.Run(string(dataplane), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t, newFakeCheckpoint(), newFakeAddresses(), func(o *Options) { o.Dataplane = func() string { return string(dataplane) } })
				l.sync(l.state(1, nil))
				pause(2 * time.Second)
				if failures := l.source.last(t).Status.Failures; len(failures) > 0 {
					t.Errorf("failures before: %v", failures)
				}
				l.interfaces.set(render.IPVSInterface, "10.49.0.1")
				pause(2 * time.Second)
				failures := l.source.last(t).Status.Failures
				if fails && (len(failures) != 1 || failures[0].Kind != "KubeProxy" || !strings.Contains(failures[0].Message, "nftablesMode")) || !fails && len(failures) > 0 {
					t.Errorf("failures with IPVS: %v, want one: %v", failures, fails)
				}
				if p := l.agent.state.Policy(); !p.Settings.IPVS || p.SettingsDirty {
					t.Errorf("policy was not told: IPVS %v, to be applied %v", p.Settings.IPVS, p.SettingsDirty)
				}
				l.stop()
			})
		})
	}
}
