package addresses

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/addresses"
	"github.com/manul-net/manul/nodeagent/attachments"
	"github.com/manul-net/manul/nodeagent/ipam"
)

// node is a node: its agent as far as it is about addresses, with a real journal, and its pods.
type node struct {
	name string
	api  *api
	dir  string
	now  func() time.Time

	disk  int // number of the disk
	given addresses.Given
	// off: the machine is.
	off bool
	// word is the NodeState that the agent goes by, words those that it may find again after a restart.
	word  *v1alpha1.NodeState
	words []*v1alpha1.NodeState
	// sandboxes that run: the UID of the pod.
	sandboxes map[string]bool
	// writes of the journal after which the agent ends, in the midst of what it does; negative: no end. written: the last of them is on disk.
	writes  int
	written bool
	// dead: the agent writes no more.
	dead bool
	// heard is how often the agent took over a NodeState. Every other time it saves what it can when it can, else only what it must.
	heard int
	// rest of addresses after use.
	rest time.Duration
}

var errDead = errors.New("the agent has ended")

// cutOff is how an agent ends in the midst of a call.
type cutOff struct{}

// around carries out a write of the journal, unless the agent ends.
func (n *node) around(write func() error) error {
	switch {
	case n.dead:
		return errDead
	case n.writes > 0:
		n.writes--
		return write()
	case n.writes < 0:
		return write()
	}
	if n.written {
		if err := write(); err != nil {
			return err
		}
	}
	panic(cutOff{}) //nolint:forbidigo // nothing else ends a call in its midst
}

// hearAndEnd has the agent take over its NodeState as it is now, and end after some writes of its journal, if it comes that far.
func (n *node) hearAndEnd(writes int, written bool) (err error) {
	n.writes, n.written = writes, written
	defer func() {
		n.writes = -1
		if r := recover(); r != nil {
			if _, ok := r.(cutOff); !ok {
				panic(r) //nolint:forbidigo // it is not this test's
			}
			err = errors.Join(n.restart(0), n.endUnanswered())
		}
	}()
	return n.hear()
}

// endUnanswered is the runtime's DEL of sandboxes whose ADD was never answered.
func (n *node) endUnanswered() error {
	var unanswered []string
	err := n.given.EachAttachment(func(name string, _ attachments.Held) {
		if !n.sandboxes[name] {
			unanswered = append(unanswered, name)
		}
	})
	for _, name := range unanswered {
		err = errors.Join(err, n.kill(name))
	}
	return err
}

func (n *node) start() error {
	n.writes = -1
	var err error
	n.given, err = addresses.Open(filepath.Join(n.dir, fmt.Sprint(n.name, "-", n.disk)), ipam.Options{Clock: n.now, Around: n.around})
	n.off, n.word = false, nil
	return err
}

func (n *node) state() (*v1alpha1.NodeState, bool) {
	like := &v1alpha1.NodeState{}
	like.Name = n.name
	return get(n.api, like)
}

// names tells whether the node has heard of a pod that it is one of its own.
func (n *node) names(uid string) bool {
	return n.word != nil && slices.ContainsFunc(n.word.Spec.Endpoints, func(e v1alpha1.Endpoint) bool { return string(e.UID) == uid })
}

// hear has the agent take over its NodeState as it is now. When it is gone the agent has no leases.
func (n *node) hear() error {
	state, ok := n.state()
	if !ok {
		n.word = nil
		return n.given.SetLeases(nil, nil, n.rest)
	}
	n.words = append(n.words, state)
	return n.follow(state, true)
}

// follow has the agent take over a NodeState. synced: it is no older than what the agent may know.
func (n *node) follow(state *v1alpha1.NodeState, synced bool) error {
	n.word = state
	n.heard++
	eager := func() error {
		if n.heard%2 == 0 {
			return nil
		}
		return n.save()
	}
	fresh, err := n.given.NeedsAdoption()
	if err != nil {
		return err
	}
	if fresh {
		if !synced {
			return nil
		}
		if err := errors.Join(n.given.Adopt(state.Status.Endpoints, n.resting(state)), eager()); err != nil {
			return err
		}
	}
	n.rest = time.Duration(state.Spec.Settings.IPAMCooldownSeconds) * time.Second
	if err := errors.Join(n.given.SetLeases(state.Spec.Blocks, state.Spec.Borrowed, n.rest), eager()); err != nil {
		return err
	}
	var uids []string
	for i := range state.Spec.Endpoints {
		e := &state.Spec.Endpoints[i]
		uids = append(uids, string(e.UID))
		if _, err := n.given.Allocate(e.ID, string(e.UID), e.Addresses); err == nil && !n.sandboxes[string(e.UID)] {
			if err := errors.Join(eager(), n.given.Attach(attachments.Owner{Endpoint: e.ID, UID: string(e.UID)}, string(e.UID)), n.save()); err != nil {
				return err
			}
			n.sandboxes[string(e.UID)] = true
		}
	}
	if synced {
		return errors.Join(n.given.Retain(uids), eager())
	}
	return nil
}

// save is what comes before an answer, and before the agent's word.
func (n *node) save() error { return n.given.Save(context.Background(), n.given.Mark()) }

// resting is what rests when the journal is lost.
func (n *node) resting(state *v1alpha1.NodeState) []string {
	if state.Spec.Settings.IPAMCooldownSeconds == 0 || state.Status.Conditions == nil {
		return nil
	}
	var out []string
	for i := range state.Spec.Blocks {
		out = append(out, state.Spec.Blocks[i].CIDR)
	}
	for i := range state.Spec.Borrowed {
		out = append(out, state.Spec.Borrowed[i].Address)
	}
	return out
}

// say writes the agent's word into the API.
func (n *node) say() error {
	state, ok := n.state()
	if !ok || n.word == nil || n.word.UID != state.UID {
		return nil
	}
	state.Status.Endpoints, state.Status.Leases = nil, nil
	state.Status.Conditions = []metav1.Condition{{Type: "Ready"}}
	if err := n.save(); err != nil {
		return err
	}
	err := n.given.Held(func(h attachments.Held) {
		s := v1alpha1.EndpointStatus{ID: h.Endpoint, UID: types.UID(h.UID)}
		for _, addr := range h.Addresses {
			s.Addresses = append(s.Addresses, addr.String())
		}
		state.Status.Endpoints = append(state.Status.Endpoints, s)
	})
	state.Status.Leases, _ = n.given.Leases()
	n.api.put(state)
	return err
}

// kill ends a pod's sandbox.
func (n *node) kill(uid string) error {
	delete(n.sandboxes, uid)
	return errors.Join(n.given.Detach(uid), n.save())
}

// end ends the agent: what it has not saved is gone.
func (n *node) end() error {
	n.dead = true
	defer func() { n.dead = false }()
	if err := n.given.Close(); !errors.Is(err, errDead) {
		return err
	}
	return nil
}

// restart ends the agent and starts it again; until it hears more it goes by an earlier word.
func (n *node) restart(earlier int) error {
	if err := n.end(); err != nil {
		return err
	}
	if err := n.start(); err != nil {
		return err
	}
	if len(n.words) == 0 {
		return nil
	}
	return n.follow(n.words[max(0, len(n.words)-1-earlier)], false)
}

// powerOff ends the agent and all pods.
func (n *node) powerOff() error {
	n.off, n.sandboxes, n.words = true, map[string]bool{}, nil
	return n.end()
}

// powerOn starts the machine, with the disk that it had or a new one.
func (n *node) powerOn(lost bool) error {
	if lost {
		if err := os.Remove(filepath.Join(n.dir, fmt.Sprint(n.name, "-", n.disk))); err != nil {
			return err
		}
		n.disk++
	}
	if err := n.start(); err != nil {
		return err
	}
	return errors.Join(n.given.KeepAttachments(nil), n.save())
}
