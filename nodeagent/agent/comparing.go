package agent

import (
	"time"

	"github.com/manul-net/manul/nodeagent/pace"
)

// compareAll has the next apply compare everything with the kernel.
func (a *Agent) compareAll() {
	if !a.started {
		a.timers.resync.Reset(jittered(a.ResyncEvery))
		return
	}
	a.comparing = true
	a.Policy.Resync()
	a.Routes.Resync()
	a.resyncTunnels()
	a.resyncBGP()
	a.resyncBeside()
	a.resyncBandwidth()
	a.timers.apply.now()
}

// compared sets the time of the next comparison, after one that took some time.
func (a *Agent) compared(took time.Duration) {
	if !a.comparing {
		return
	}
	a.comparing = false
	a.timers.resync.Reset(pace.Next(jittered(a.ResyncEvery), took))
}
