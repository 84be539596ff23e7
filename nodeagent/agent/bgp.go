package agent

import (
	"cmp"
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/tables"
)

// BGP is a speaker.
type BGP interface {
	Dataplane[*tables.BGP]
	// Learned calls each for every destination whose best learned paths changed since the last call; without next hops they
	// are gone.
	Learned(each func(netip.Prefix, tables.BGPPaths))
	// Sessions tells how the sessions stand, in order of their name.
	Sessions(ctx context.Context) []tables.BGPSessionState
	// Paths lists all paths that the speaker knows. It may be called from any goroutine.
	Paths(ctx context.Context) ([]tables.BGPPath, error)
	// Holding tells whether what is not learned may yet be learned again, because speaker or peers have just begun.
	Holding(ctx context.Context) bool
}

// LearnedRoutes puts what BGP learned into the kernel.
type LearnedRoutes interface {
	Dataplane[*tables.LearnedRoutes]
	// InForce tells whether the kernel has the route to a destination, as of the last Apply.
	InForce(netip.Prefix) bool
}

const (
	// sessionsEvery bounds how often sessions are asked how they stand: counting prefixes takes work.
	sessionsEvery = time.Second
	// maxListed bounds how many sessions of the mesh and of groups are listed that are not established.
	maxListed = 32
	// holdingEvery is how often it is asked whether all was learned again.
	holdingEvery = 500 * time.Millisecond
	// bridgeTime bounds how long the agent's own routes wait for those of BGP.
	bridgeTime = 2 * time.Minute
)

// speaking is what the loop knows of BGP.
type speaking struct {
	// holding: see BGP.Holding.
	holding bool
	// look: the speaker or the ways to next hops changed.
	look bool
	// news of sessions, not asked about since asked.
	news     bool
	asked    time.Time
	sessions []v1alpha1.BGPSessionStatus
	groups   []v1alpha1.BGPGroupStatus
	// bridged is since when routes wait for those of BGP; zero: none does.
	bridged time.Time
}

// bgpChanged gives a channel that never yields when there is no BGP.
func (a *Agent) bgpChanged() <-chan struct{} {
	if a.BGP == nil {
		return nil
	}
	return a.BGP.Changed()
}

func (a *Agent) learnedChanged() <-chan struct{} {
	if a.Learned == nil {
		return nil
	}
	return a.Learned.Changed()
}

// takeLearned brings what BGP learned into the tables.
func (a *Agent) takeLearned(ctx context.Context) {
	if a.BGP == nil || !a.started {
		return
	}
	a.BGP.Learned(a.state.SetLearned)
	a.speaking.holding = a.BGP.Holding(ctx)
	a.state.Learned().SetKeep(a.speaking.holding)
	if a.speaking.holding {
		a.timers.bgp.within(holdingEvery)
	}
}

// applyBGP makes the speaker, and the routes that it learned, what they should be.
//
// The speaker comes after the routes: what it advertises is there.
//
// Whatever goes wrong with BGP, policy and the routes between nodes are in force all the same, so it is a failure among the
// items and none of the whole.
func (a *Agent) applyBGP(ctx context.Context, due bool) []*tables.ItemError {
	if a.BGP == nil {
		return nil
	}
	var items []*tables.ItemError
	apply := func(name string, apply func() error) {
		a.Metrics.timed(name, func() {
			refused, err := split(apply())
			items = append(items, refused...)
			if err != nil {
				items = append(items, &tables.ItemError{Kind: tables.KindBGPSession, Name: name, Err: err})
			}
		})
	}
	due, a.speaking.look = due || a.speaking.look, false
	if a.state.BGP().HasDirty() {
		a.asking.configured = time.Now()
	}
	if due || a.state.BGP().HasDirty() {
		apply("bgp", func() error { return a.BGP.Apply(ctx, a.state.BGP()) })
		a.speaking.news = true
		a.takeLearned(ctx)
	} else {
		items = append(items, a.itemsOf(func(e *tables.ItemError) bool { return isSession(e) && !isLearned(e) })...)
	}
	if due || a.state.Learned().HasDirty() {
		apply(learned, func() error { return a.Learned.Apply(ctx, a.state.Learned()) })
		a.speaking.news = true // how many were received
	} else {
		items = append(items, a.itemsOf(isLearned)...)
	}
	return items
}

// learned names all learned routes where they fail as a whole.
const learned = "learned"

func isLearned(e *tables.ItemError) bool {
	return e.Kind == tables.KindLearnedRoute || e.Kind == tables.KindBGPSession && e.Name == learned
}

func isSession(e *tables.ItemError) bool {
	return e.Kind == tables.KindBGPSession || e.Kind == tables.KindLearnedRoute
}

// bgpDirty tells whether BGP has something to do.
func (a *Agent) bgpDirty() bool {
	return a.BGP != nil && (a.speaking.look || a.state.BGP().HasDirty() || a.state.Learned().HasDirty())
}

// bgpStatus tells how the sessions stand, as of the last time that they were asked. A session of a group is only listed while it is not
// established: there may be thousands.
func (a *Agent) bgpStatus(ctx context.Context) ([]v1alpha1.BGPSessionStatus, []v1alpha1.BGPGroupStatus) {
	s := &a.speaking
	if a.BGP == nil || !s.news {
		return s.sessions, s.groups
	}
	if wait := sessionsEvery - time.Since(s.asked); wait > 0 {
		a.timers.bgp.within(wait)
		return s.sessions, s.groups
	}
	s.asked, s.news, s.sessions = time.Now(), false, nil
	states := a.BGP.Sessions(ctx)
	s.groups = countGroups(states)
	listed := 0
	for _, state := range states {
		if state.Group != "" {
			if state.State == stateEstablished || listed == maxListed {
				continue
			}
			listed++
		}
		s.sessions = append(s.sessions, sessionStatus(&state))
	}
	return slices.Clip(s.sessions), s.groups
}

func sessionStatus(state *tables.BGPSessionState) v1alpha1.BGPSessionStatus {
	out := v1alpha1.BGPSessionStatus{
		Name: state.Name, ASNumber: int64(state.ASNumber), State: state.State, Received: int32(state.Received),
		Advertised: int32(state.Advertised), Reason: state.Reason, Message: clip(state.Message),
	}
	if state.Address.IsValid() {
		out.Address = state.Address.String()
	}
	if state.SinceUnix > 0 {
		out.Since = metav1.Unix(state.SinceUnix, 0)
	}
	return out
}

const stateEstablished = "Established"

// countGroups counts the sessions of groups, in order of name and family.
func countGroups(states []tables.BGPSessionState) []v1alpha1.BGPGroupStatus {
	type key struct {
		name   string
		family int32
	}
	counts := map[key]*v1alpha1.BGPGroupStatus{}
	for i := range states {
		state := &states[i]
		if state.Group == "" {
			continue
		}
		k := key{state.Group, 4}
		if state.Address.Is6() {
			k.family = 6
		}
		if counts[k] == nil {
			counts[k] = &v1alpha1.BGPGroupStatus{Name: k.name, Family: k.family}
		}
		counts[k].Sessions++
		if state.State == stateEstablished {
			counts[k].Established++
		}
	}
	var out []v1alpha1.BGPGroupStatus
	for _, k := range slices.SortedFunc(maps.Keys(counts), func(a, b key) int {
		return cmp.Or(strings.Compare(a.name, b.name), cmp.Compare(a.family, b.family))
	}) {
		out = append(out, *counts[k])
	}
	return out
}

func (a *Agent) resyncBGP() {
	if a.BGP != nil {
		a.BGP.Resync()
		a.Learned.Resync()
	}
}

// endBridged gives up the agent's own routes that were to stay until BGP has one that is in force, or has had its time. It tells whether there
// were any.
func (a *Agent) endBridged() bool {
	s := &a.speaking
	if !a.state.HasBridged() {
		s.bridged = time.Time{}
		return false
	}
	if s.bridged.IsZero() {
		s.bridged = time.Now()
	}
	wait := bridgeTime - time.Since(s.bridged)
	over := wait <= 0 || a.Learned == nil
	ended := a.state.EndBridged(func(p netip.Prefix) bool { return over || a.Learned.InForce(p) })
	if a.state.HasBridged() {
		a.timers.bridge.within(wait)
	}
	return ended
}
