package main

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/manul-net/manul/test/bench/clusters"
)

// restTime is how long a pod stays as it is after a change, so that two changes are not taken for one.
const restTime = 5 * time.Second

// churn changes pods.
type churn struct {
	cluster *clusters.Cluster
	hub     *hub
	agents  *process
	random  *rand.Rand

	pods []int       // that there are, by number
	apps map[int]int // those that have another application's label than at first
	// moved are pods that were given another label, those that were first at the front.
	moved []int
	next  int // number of the next pod that comes
	// rested: when a pod has rested.
	rested map[int]time.Time
	made   int
	// held is how long no change was made because an operator was behind.
	held time.Duration
}

func newChurn(c *clusters.Cluster, h *hub, agents *process) *churn {
	x := &churn{cluster: c, hub: h, agents: agents, random: c.Random, apps: map[int]int{}, next: c.Pods, rested: map[int]time.Time{}}
	for i := range c.Pods {
		x.pods = append(x.pods, i)
	}
	return x
}

// behind is how much an operator may not have been told of when the next change is made. An operator that is slower than its cluster changes
// would be further behind the longer that lasts, and the figures would tell how long it did.
const behind = 2_000

// run makes so many changes in a second until ctx ends, fewer while an operator is behind. What could not be made in time otherwise is made
// at once.
func (x *churn) run(ctx context.Context, perSecond float64) error {
	if perSecond <= 0 {
		<-ctx.Done()
		return nil
	}
	start, before := time.Now(), x.made
	for {
		due := start.Add(time.Duration(float64(x.made-before) / perSecond * float64(time.Second)))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Until(due)):
		}
		if x.hub.waiting() > behind {
			held := time.Now()
			for x.hub.waiting() > behind && ctx.Err() == nil {
				<-time.After(askEvery)
			}
			start = start.Add(time.Since(held))
			x.held += time.Since(held)
		}
		if err := x.step(ctx); err != nil {
			if ctx.Err() != nil {
				return nil //nolint:nilerr // told to end
			}
			return err
		}
	}
}

// step makes one change or, when a pod goes, two: another comes for it.
func (x *churn) step(ctx context.Context) error {
	place, pod, ok := x.pick()
	if !ok {
		return context.Cause(ctx)
	}
	if x.random.IntN(3) > 0 {
		if pod, ok := x.back(); ok {
			return x.change(ctx, relabelled, pod, func() error { return x.hub.Set(x.cluster.Pod(pod, x.app(pod))) })
		}
		app := (x.app(pod) + 1 + x.random.IntN(clusters.AppsOfNamespace-1)) % clusters.AppsOfNamespace
		x.apps[pod] = app
		x.moved = append(x.moved, pod)
		return x.change(ctx, relabelled, pod, func() error { return x.hub.Set(x.cluster.Pod(pod, app)) })
	}
	app := x.app(pod)
	delete(x.apps, pod)
	if err := x.change(ctx, goes, pod, func() error { return x.hub.Delete(x.cluster.Pod(pod, app)) }); err != nil {
		return err
	}
	newer := x.next
	x.next++
	x.pods[place] = newer
	return x.change(ctx, comes, newer, func() error { return x.hub.Set(x.cluster.Pod(newer, x.app(newer))) })
}

// movedShare is the share of pods, one in so many, that have another label than at first. When there are more, the one that was moved first goes
// back instead: otherwise applications would be mixed more and more, and a change would concern more nodes the longer the run is.
const movedShare = 100

// back gives a pod its own label back, if too many have others.
func (x *churn) back() (pod int, ok bool) {
	for len(x.moved) > len(x.pods)/movedShare {
		pod = x.moved[0]
		_, is := x.apps[pod] // else it is gone
		if is && !time.Now().After(x.rested[pod]) {
			return 0, false
		}
		x.moved = x.moved[1:]
		if is {
			delete(x.apps, pod)
			return pod, true
		}
	}
	return 0, false
}

func (x *churn) app(pod int) int {
	if app, other := x.apps[pod]; other {
		return app
	}
	return x.cluster.App(pod)
}

// pick finds a pod that has rested; false when there are few of these.
func (x *churn) pick() (place, pod int, ok bool) {
	const tries = 100
	now := time.Now()
	for range tries {
		place = x.random.IntN(len(x.pods))
		pod = x.pods[place]
		if now.After(x.rested[pod]) {
			x.rested[pod] = now.Add(restTime)
			x.forget(now)
			return place, pod, true
		}
	}
	x.made++ // left out
	return 0, 0, false
}

// forget forgets pods that have rested, when they are many.
func (x *churn) forget(now time.Time) {
	const many = 10_000
	if len(x.rested) < many {
		return
	}
	for pod, at := range x.rested {
		if now.After(at) {
			delete(x.rested, pod)
		}
	}
}

// change makes a change that agents look out for.
func (x *churn) change(ctx context.Context, what string, pod int, do func() error) error {
	x.made++
	x.rested[pod] = time.Now().Add(restTime)
	id := x.cluster.PodID(pod)
	if err := x.agents.call(ctx, "Watch", Probe{What: what, Pod: id}, &None{}); err != nil {
		return err
	}
	at := time.Now().UnixNano()
	if err := do(); err != nil {
		return err
	}
	return x.agents.call(ctx, "Begun", Begun{Pod: id, At: at}, &None{})
}
