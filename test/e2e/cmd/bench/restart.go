package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/manul-net/manul/test/e2e/lab"
)

const (
	// restarts is how many times the agent is started anew, restartsWith the same with many policies, and watched how long packets are
	// looked at after each change, at the most. The kubelet takes a second or two until it starts the next agent. Even numbers: every other change
	// undoes the one before.
	restarts, restartsWith = 10, 6
	watched                = 30 * time.Second
)

// refusal denies what the client asks of the server.
const refusal = `
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: refusal, namespace: bench}
spec: {order: 1, selector: role == "server", types: [Ingress], ingress: [{action: Deny, source: {selector: role == "client"}}]}
`

// restart measures how long after its start the agent has in force what was changed while it was away.
func (b *bench) restart(ctx context.Context, t *table, with string, times int) error {
	if err := b.apply(ctx, "standing", standing); err != nil {
		return err
	}
	server, err := b.Kubectl(ctx, "get", "pod", "-n", "bench", "server", "-o", "jsonpath={.status.podIP}")
	if err != nil {
		return err
	}
	var took []time.Duration
	for i := range times {
		d, err := b.restartOnce(ctx, strings.TrimSpace(server), i%2 == 0)
		if err != nil {
			return err
		}
		took = append(took, d)
	}
	t.row(with+"agent starts -> a change made before is in force", took)
	_, err = b.Kubectl(ctx, "delete", "-n", "bench", "networkpolicies.projectcalico.org", "standing")
	return err
}

// restartOnce ends the agent, makes a change while there is none, and tells how long after the next one began the first connection saw it.
func (b *bench) restartOnce(ctx context.Context, server string, deny bool) (time.Duration, error) {
	pod, err := b.Kubectl(ctx, "get", "pods", "-n", "manul-system", "-l", "app.kubernetes.io/name=manul-node", "--field-selector=spec.nodeName=worker1", "-o", "name")
	if err != nil {
		return 0, err
	}
	change := []string{"delete", "-n", "bench", "networkpolicies.projectcalico.org", "refusal"}
	if deny {
		change = []string{"apply", "-f", "-"}
	}
	old, err := b.pid(ctx)
	if err != nil {
		return 0, err
	}
	if _, err := b.Kubectl(ctx, "delete", "-n", "manul-system", "--wait=false", strings.TrimSpace(pod)); err != nil {
		return 0, err
	}
	if err := lab.Eventually(ctx, time.Minute, func(ctx context.Context) error {
		if now, err := b.pid(ctx); err == nil && now == old {
			return errors.New("the agent has not ended")
		}
		return nil
	}); err != nil {
		return 0, err
	}
	if _, err := b.KubectlInput(ctx, refusal, change...); err != nil {
		return 0, err
	}
	changed := time.Now()
	began, seen, err := b.seen(ctx, server, deny)
	if err != nil {
		return 0, err
	}
	if began.Before(changed) {
		return 0, fmt.Errorf("the agent began %s before the change that was to be made while it was away", changed.Sub(began))
	}
	_, err = b.Kubectl(ctx, "rollout", "status", "-n", "manul-system", "daemonset/manul-node", "--timeout=120s")
	return seen.Sub(began), err
}

// seen waits for the first connection that sees a change after the agent began. One that is refused earlier on a busy machine is none.
func (b *bench) seen(ctx context.Context, server string, deny bool) (began, seen time.Time, err error) {
	until := "accepted"
	if deny {
		until = "refused"
	}
	first := true
	for changed := time.Now(); time.Since(changed) < watched; first = false {
		probe := b.InPod(ctx, "worker2", "client", "probe", "-every", "2ms", "-timeout", "100ms", "-for", watched.String(), "-until", until, server+":8080")
		out, err := probe.Output()
		if err != nil {
			return began, seen, fmt.Errorf("running the prober: %w", err)
		}
		attempts, err := decode[attempt](string(out))
		if err != nil {
			return began, seen, err
		}
		slices.SortFunc(attempts, func(a, b attempt) int { return int(a.Start - b.Start) })
		if first && (len(attempts) == 0 || attempts[0].OK != deny) {
			return began, seen, errors.New("the change was in force before the agent began")
		}
		if began, err = b.began(ctx); err != nil {
			continue // there is no agent yet
		}
		for _, a := range attempts {
			if a.Start >= began.UnixNano() && a.OK != deny {
				return began, time.Unix(0, a.Start), nil
			}
		}
	}
	return began, seen, fmt.Errorf("no connection saw the change within %s", watched)
}

// pid of the agent on worker1.
func (b *bench) pid(ctx context.Context) (string, error) {
	out, err := b.On(ctx, "worker1", "pidof", "manul-node")
	return strings.TrimSpace(out), err
}

// began tells when the agent's process was made, to 10 ms.
func (b *bench) began(ctx context.Context) (time.Time, error) {
	out, err := b.On(ctx, "worker1", "sh", "-c", `cut -d')' -f2 /proc/$(pidof manul-node)/stat; cat /proc/uptime`)
	if err != nil {
		return time.Time{}, err
	}
	now := time.Now()
	stat, uptime, _ := strings.Cut(out, "\n")
	fields := strings.Fields(stat) // from the third field of proc_pid_stat(5) on
	const starttime = 22 - 3
	var ticks, up float64
	if len(fields) <= starttime {
		return time.Time{}, fmt.Errorf("reading %q: too few fields", stat)
	}
	if _, err := fmt.Sscan(fields[starttime]+" "+uptime, &ticks, &up); err != nil {
		return time.Time{}, fmt.Errorf("reading %q: %w", out, err)
	}
	const ticksPerSecond = 100 // USER_HZ
	return now.Add(-time.Duration((up - ticks/ticksPerSecond) * float64(time.Second))), nil
}
