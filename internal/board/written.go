package board

import (
	"slices"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/render"
)

// What nodes have put into effect is told in resource versions of the API, whichever way it came to them: all that is counted is
// so counted alike. A version stands for the content that was on the board when it, or what was written with it, had been put there.

// Meta is what the API server adds to an object.
type Meta struct {
	UID        types.UID
	Generation int64
	Version    uint64
	// Status of a NodeState as it was when its spec was written last.
	Status *v1alpha1.NodeStateStatus
}

// form names a content of the operator's part: the API server counts its changes.
type form struct {
	uid        types.UID
	generation int64
}

func (m *Meta) form() form { return form{m.UID, m.Generation} }

// written is what the API has.
type written struct {
	// api are the objects in the API: the last seen of each.
	api map[render.Key]*inAPI
	// reached is the highest version that was seen of each kind.
	reached map[render.Kind]uint64
	// strange are objects of which the API has content that was never on the board: from which version on. The leader writes
	// what this replica does not know yet, or an operator of another version did.
	strange map[render.Kind]map[string]uint64
}

type inAPI struct {
	meta Meta
	// object, while it is strange.
	object runtime.Object
}

func newWritten() written {
	return written{api: map[render.Key]*inAPI{}, reached: map[render.Kind]uint64{}, strange: map[render.Kind]map[string]uint64{}}
}

// upTo is the version of a kind up to which all content has been on the board.
func (w *written) upTo(kind render.Kind) uint64 {
	v := w.reached[kind]
	for _, strange := range w.strange[kind] {
		v = min(v, max(strange, 1)-1)
	}
	return v
}

// metaOf is what is known of a node's own object; nil while what the API has was never on the board.
func (w *written) metaOf(node string) *Meta {
	in := w.api[render.Key{Kind: render.KindNodeState, Name: node}]
	if in == nil || in.object != nil {
		return nil
	}
	meta := in.meta // a copy: a status may be written later
	return &meta
}

// KeyOf names a rendered object; false for any other.
func KeyOf(obj runtime.Object) (render.Key, bool) {
	o, ok := obj.(metav1.Object)
	if !ok {
		return render.Key{}, false
	}
	switch obj.(type) {
	case *v1alpha1.NodeState:
		return render.Key{Kind: render.KindNodeState, Name: o.GetName()}, true
	case *v1alpha1.NodeEndpoints:
		return render.Key{Kind: render.KindNodeEndpoints, Name: o.GetName()}, true
	case *v1alpha1.NodeNetwork:
		return render.Key{Kind: render.KindNodeNetwork, Name: o.GetName()}, true
	case *v1alpha1.PolicyProgram:
		return render.Key{Kind: render.KindPolicyProgram, Name: o.GetName()}, true
	case *v1alpha1.SetCatalog:
		return render.Key{Kind: render.KindSetCatalog, Name: o.GetName()}, true
	}
	return render.Key{}, false
}

// Written takes the news that the API has an object as given, or that it is gone. Nodes are told when the operator waits to hear
// of it.
func (b *Board) Written(obj runtime.Object, gone bool) {
	key, ok := KeyOf(obj)
	if !ok {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	meta := metaOf(obj)
	w := &b.written
	w.reached[key.Kind] = max(w.reached[key.Kind], meta.Version)
	before := w.api[key]
	if gone {
		delete(w.api, key)
		b.settle(key)
		if o := b.objects[key]; o != nil {
			b.dropIfGone(key, o)
		}
		return
	}
	if before != nil && before.object == nil && before.meta.UID == meta.UID && before.meta.Generation == meta.Generation && meta.Generation > 0 {
		before.meta = meta // its status was written
		return
	}
	now := &inAPI{meta: meta}
	w.api[key] = now
	o := b.objects[key]
	if o == nil || !o.has(obj, meta.form()) {
		now.object = obj
		if w.strange[key.Kind] == nil {
			w.strange[key.Kind] = map[string]uint64{}
		}
		if _, was := w.strange[key.Kind][key.Name]; !was {
			w.strange[key.Kind][key.Name] = meta.Version
		}
		return
	}
	b.settle(key)
	b.ask(key, o, meta.Version)
}

// Share has an object of the API share the operator's part with the board where it is the same. Nobody else may know of the object
// yet. What is on the board is read only, and so is the object then.
func (b *Board) Share(obj runtime.Object) {
	key, ok := KeyOf(obj)
	if !ok {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	o := b.objects[key]
	if o == nil || o.rendered == nil {
		return
	}
	// Most of what comes are new statuses.
	meta := metaOf(obj)
	if as := meta.form(); as.generation == 0 || as != o.as {
		if !render.Same(render.SpecOf(o.rendered), render.SpecOf(obj)) {
			return
		}
	}
	switch in := obj.(type) {
	case *v1alpha1.NodeState:
		shareSpec(o.rendered, func(r *v1alpha1.NodeState) { in.Spec = r.Spec })
	case *v1alpha1.NodeEndpoints:
		shareSpec(o.rendered, func(r *v1alpha1.NodeEndpoints) { in.Spec = r.Spec })
	case *v1alpha1.NodeNetwork:
		shareSpec(o.rendered, func(r *v1alpha1.NodeNetwork) { in.Spec = r.Spec })
	case *v1alpha1.PolicyProgram:
		shareSpec(o.rendered, func(r *v1alpha1.PolicyProgram) { in.Spec = r.Spec })
	case *v1alpha1.SetCatalog:
		shareSpec(o.rendered, func(r *v1alpha1.SetCatalog) { in.Spec = r.Spec })
	}
}

func shareSpec[O runtime.Object](rendered runtime.Object, share func(O)) {
	if r, ok := rendered.(O); ok {
		share(r)
	}
}

// Same tells whether two objects have the same operator's part.
func Same(a, b runtime.Object) bool { return render.Same(render.SpecOf(a), render.SpecOf(b)) }

// has tells whether the content of an object in the API has been on the board. What is older than that will not be written any more.
func (o *object) has(obj runtime.Object, as form) bool {
	spec := render.SpecOf(obj)
	if o.rendered != nil && render.Same(render.SpecOf(o.rendered), spec) {
		o.former, o.unwritten, o.as = nil, false, as
		return true
	}
	for i, former := range slices.Backward(o.former) {
		if render.Same(render.SpecOf(former), spec) {
			o.former = o.former[i:]
			return true
		}
	}
	return false
}

// lookAtStrange looks again at an object that was strange: by now its content may have been put on the board.
func (b *Board) lookAtStrange(key render.Key, o *object) {
	in := b.written.api[key]
	if in == nil || in.object == nil || o.rendered == nil || !o.has(in.object, in.meta.form()) {
		return
	}
	in.object = nil
	b.settle(key)
	b.ask(key, o, in.meta.Version)
}

// settle notes that an object is not strange, or not any more. Later versions may count from here on.
func (b *Board) settle(key render.Key) {
	strange := b.written.strange[key.Kind]
	if _, was := strange[key.Name]; !was {
		return
	}
	delete(strange, key.Name)
	for s := range b.waiting {
		s.wakeUp(time.Now())
	}
	clear(b.waiting)
}

// ask has the nodes that an object concerns say when they have everything up to the version that it was written with. Policies wait for
// programs, for sets that came, and for what nodes are told of their own; what else waits are endpoints that change identity, which nobody sees.
func (b *Board) ask(key render.Key, o *object, version uint64) {
	ask := func(s *Subscription, leisurely bool) {
		if !leisurely {
			s.asked[key.Kind] = max(s.asked[key.Kind], version)
			s.wakeUp(time.Now())
			return
		}
		s.later[key.Kind] = max(s.later[key.Kind], version)
		if !s.resting {
			s.wakeUp(time.Now())
		}
	}
	asked := func(to map[*Subscription]struct{}, leisurely bool) {
		for s := range to {
			ask(s, leisurely)
		}
	}
	switch key.Kind {
	case render.KindNodeState:
		if s := b.nodes[key.Name]; s != nil {
			s.state, s.newMeta = b.written.metaOf(key.Name), true
			s.wakeUp(time.Now())
		}
	case render.KindPolicyProgram:
		asked(b.byProgram[key.Name], false)
	case render.KindSetCatalog:
		for id := range o.fresh {
			asked(b.bySet[id], false)
		}
		for id := range o.refilled {
			asked(b.bySet[id], true)
		}
		if !o.unwritten {
			clear(o.fresh)
			clear(o.refilled)
		}
	case render.KindNodeEndpoints:
		for node := range o.moved {
			if s := b.nodes[node]; s != nil { // else it has gone since
				ask(s, true)
			}
		}
		if !o.unwritten {
			clear(o.moved)
		}
	case render.KindNodeNetwork:
	}
}

func metaOf(obj runtime.Object) Meta {
	o, ok := obj.(metav1.Object)
	if !ok {
		return Meta{}
	}
	version, err := strconv.ParseUint(o.GetResourceVersion(), 10, 64)
	if err != nil {
		version = 0 // counts as the oldest
	}
	meta := Meta{UID: o.GetUID(), Generation: o.GetGeneration(), Version: version}
	if state, ok := obj.(*v1alpha1.NodeState); ok {
		meta.Status = &state.Status
	}
	return meta
}
