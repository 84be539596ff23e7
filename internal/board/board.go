package board

import (
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/manul-net/manul/internal/render"
)

// Board is the rendered state of the cluster. Its methods are safe for concurrent use, and none of them waits.
type Board struct {
	epoch string

	mu      sync.Mutex
	cursor  uint64
	objects map[render.Key]*object
	written written

	// holders are the endpoints with an identity, portHolders those with a port of a name.
	holders     index[string, *Item]
	portHolders index[string, *Item]
	// sets by ID, and listing: identity -> the sets that list it.
	sets    map[string]*Item
	listing index[string, string]
	// networks are those of all nodes.
	networks networks

	nodes     map[string]*Subscription
	byProgram index[string, *Subscription]
	bySet     index[string, *Subscription]
	byPort    index[string, *Subscription]
	// waiting are the nodes that are to be asked for a version that does not count yet.
	waiting map[*Subscription]struct{}
}

// object is a rendered object on the board.
type object struct {
	rendered runtime.Object
	items    map[string]*Item
	// as is the form in which the API has been seen to have it as rendered; zero: none yet.
	as form
	// refs of a program.
	refs refs
	// former content that has not been seen in the API yet, the newest last.
	former []runtime.Object
	// unwritten: the API has not been seen to have it as rendered.
	unwritten bool
	// moved are nodes that were told of endpoints under another identity, or learned of them before the API had them so: the operator waits
	// for their word. By name, so that nothing is kept of subscriptions that are over, however long the object is not written.
	moved map[string]struct{}
	// fresh and refilled are sets of a SetCatalog that came, or whose content changed, and that have not been seen in the API yet.
	fresh, refilled map[string]struct{}
}

// maxFormer bounds how many former contents of an object are remembered. An object of which more have passed before one was written
// counts as not written until the newest is.
const maxFormer = 8

// index maps a key to a set of values.
type index[K, V comparable] map[K]map[V]struct{}

func (x index[K, V]) add(key K, value V) {
	if x[key] == nil {
		x[key] = map[V]struct{}{}
	}
	x[key][value] = struct{}{}
}

func (x index[K, V]) remove(key K, value V) {
	delete(x[key], value)
	if len(x[key]) == 0 {
		delete(x, key)
	}
}

// New makes an empty board.
func New() *Board {
	return &Board{
		epoch:       rand.Text(),
		objects:     map[render.Key]*object{},
		written:     newWritten(),
		holders:     index[string, *Item]{},
		portHolders: index[string, *Item]{},
		sets:        map[string]*Item{},
		listing:     index[string, string]{},
		networks:    newNetworks(),
		nodes:       map[string]*Subscription{},
		byProgram:   index[string, *Subscription]{},
		bySet:       index[string, *Subscription]{},
		byPort:      index[string, *Subscription]{},
		waiting:     map[*Subscription]struct{}{},
	}
}

// Epoch tells this board's cursors from those of others.
func (b *Board) Epoch() string { return b.epoch }

// Change is one object as it is now; nil when there is none.
type Change struct {
	Key    render.Key
	Object runtime.Object
}

// Put takes changes that belong together. since is when the first of them became known: the time to the nodes is measured from
// there.
func (b *Board) Put(changes []Change, since time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cursor++
	woken := map[*Subscription]struct{}{}
	for _, c := range changes {
		if err := b.put(c.Key, c.Object, woken); err != nil {
			return err
		}
	}
	for s := range woken {
		s.wakeUp(since)
	}
	return nil
}

func (b *Board) put(key render.Key, obj runtime.Object, woken map[*Subscription]struct{}) error {
	items, err := split(key, obj)
	if err != nil {
		return fmt.Errorf("putting %s %q on the board: %w", key.Kind, key.Name, err)
	}
	o := b.objects[key]
	if o == nil {
		o = &object{moved: map[string]struct{}{}, fresh: map[string]struct{}{}, refilled: map[string]struct{}{}}
		b.objects[key] = o
	}
	for id, old := range o.items {
		switch now := items[id]; {
		case now == nil:
			b.changed(o, old, nil, woken)
		case sameItem(old, now):
			items[id] = old // with its encoding
			continue
		default:
			b.changed(o, old, now, woken)
		}
		o.unwritten = true
	}
	for id, now := range items {
		if o.items[id] == nil {
			b.changed(o, nil, now, woken)
			o.unwritten = true
		}
	}
	if o.rendered != nil {
		if o.former = append(o.former, o.rendered); len(o.former) > maxFormer {
			o.former = o.former[1:]
		}
	}
	o.rendered, o.items, o.as = obj, items, form{}
	if s := b.nodes[key.Name]; s != nil && key.Kind == render.KindNodeState {
		s.concern(programsOf(items))
	}
	b.lookAtStrange(key, o)
	b.dropIfGone(key, o)
	return nil
}

func (b *Board) dropIfGone(key render.Key, o *object) {
	if o.rendered == nil && b.written.api[key] == nil {
		delete(b.objects, key)
	}
}

// changed brings the indexes up to date, and tells the nodes that are concerned. One of old and now may be nil.
func (b *Board) changed(o *object, old, now *Item, woken map[*Subscription]struct{}) {
	item := old
	if item == nil {
		item = now
	}
	tell := func(to map[*Subscription]struct{}) {
		for s := range to {
			s.mark(item.ItemKey)
			s.hurries = s.hurries || item.Kind == render.KindNodeState || item.Kind == render.KindPolicyProgram
			woken[s] = struct{}{}
		}
	}
	switch item.Kind {
	case render.KindNodeState:
		if s := b.nodes[item.Name]; s != nil {
			tell(map[*Subscription]struct{}{s: {}})
		}
	case render.KindNodeNetwork:
		b.changeNetwork(item.Name, now, woken)
	case render.KindPolicyProgram:
		tell(b.byProgram[item.Name])
		before, after := o.refs, refsOf(now)
		o.refs = after
		for s := range b.byProgram[item.Name] {
			s.exchange(before, after)
		}
	case render.KindSetCatalog:
		tell(b.bySet[item.ID])
		if old == nil {
			o.fresh[item.ID] = struct{}{}
		} else {
			o.refilled[item.ID] = struct{}{}
		}
		b.changeSet(item.ID, old, now)
	case render.KindNodeEndpoints:
		concerned := map[*Subscription]struct{}{}
		b.concerned(old, concerned)
		b.indexEndpoint(old, now)
		b.concerned(now, concerned)
		tell(concerned)
		if old != nil && now != nil && !equal(old.identities(), now.identities()) {
			for s := range concerned {
				o.moved[s.node] = struct{}{}
			}
		}
	}
}

func equal(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func (b *Board) indexEndpoint(old, now *Item) {
	if e := old.endpoint(); e != nil {
		for _, id := range e.Identities {
			b.holders.remove(id, old)
		}
		for _, p := range e.Ports {
			b.portHolders.remove(p.Name, old)
		}
	}
	if e := now.endpoint(); e != nil {
		for _, id := range e.Identities {
			b.holders.add(id, now)
		}
		for _, p := range e.Ports {
			b.portHolders.add(p.Name, now)
		}
	}
}

// concerned adds the nodes that must know of an endpoint.
func (b *Board) concerned(item *Item, into map[*Subscription]struct{}) {
	e := item.endpoint()
	if e == nil {
		return
	}
	for _, id := range e.Identities {
		for set := range b.listing[id] {
			for s := range b.bySet[set] {
				into[s] = struct{}{}
			}
		}
	}
	for _, p := range e.Ports {
		for s := range b.byPort[p.Name] {
			into[s] = struct{}{}
		}
	}
}

// changeSet has the nodes that know a set learn of the endpoints that come and go with its identities.
func (b *Board) changeSet(id string, old, now *Item) {
	was, is := map[string]struct{}{}, map[string]struct{}{}
	put(was, old.members())
	put(is, now.members())
	for identity := range was {
		if _, stays := is[identity]; !stays {
			b.listing.remove(identity, id)
			b.markHolders(identity, b.bySet[id])
		}
	}
	for identity := range is {
		if _, known := was[identity]; !known {
			b.listing.add(identity, id)
			b.markHolders(identity, b.bySet[id])
		}
	}
	if now == nil {
		delete(b.sets, id)
	} else {
		b.sets[id] = now
	}
}

func (b *Board) markHolders(identity string, to map[*Subscription]struct{}) {
	for item := range b.holders[identity] {
		for s := range to {
			s.learn(item)
		}
	}
}

// find gives the item as it is now; nil when there is none.
func (b *Board) find(key ItemKey) *Item {
	if o := b.objects[key.Key]; o != nil {
		return o.items[key.ID]
	}
	return nil
}

// Nodes counts the subscriptions.
func (b *Board) Nodes() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.nodes)
}

// Pending counts the items that a node has yet to be told.
func (b *Board) Pending(node string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.nodes[node]; s != nil {
		return len(s.pending) + len(b.networks.since(s.networksTo))
	}
	return 0
}
