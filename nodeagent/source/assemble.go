package source

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/fxamacker/cbor/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/internal/wire"
)

// assembler puts together the objects of which the stream tells item by item. It keeps the items of objects that have several, as they
// came.
type assembler struct {
	node string
	// items of NodeEndpoints and SetCatalogs by name, and of the node's own NodeState.
	endpoints map[string]map[string]cbor.RawMessage
	catalogs  map[string]map[string]cbor.RawMessage
	state     map[string]cbor.RawMessage

	// parts of a batch of which the last has yet to come.
	parts []*wire.Down
	size  int

	// meta is what the API has of the node's own object; status what was reported last.
	meta   *wire.State
	status *v1alpha1.NodeStateStatus
	// renewed: the node's own object is another than before, and nothing has been reported for it.
	renewed bool
}

// maxBatch bounds what belongs together, bytes. A node that 150,000 endpoints concern gets some 25 MB.
const maxBatch = 256 << 20

// partSize and changeSize are what a message and a change take in memory beside what they hold, bytes.
const partSize, changeSize = 256, 96

func newAssembler(node string) *assembler {
	a := &assembler{node: node}
	a.forget()
	return a
}

func (a *assembler) forget() {
	a.endpoints, a.catalogs, a.state = map[string]map[string]cbor.RawMessage{}, map[string]map[string]cbor.RawMessage{}, map[string]cbor.RawMessage{}
	a.parts, a.size = nil, 0
}

// take takes a message. When it is the last of a batch, the batch goes to the sink, and whole is true.
func (a *assembler) take(d *wire.Down, sink Sink) (whole bool, err error) {
	a.size += partSize
	for i := range d.Changes {
		c := &d.Changes[i]
		a.size += changeSize + len(c.Kind) + len(c.Name) + len(c.ID) + len(c.Item)
	}
	if a.size > maxBatch {
		return false, fmt.Errorf("a batch is larger than %d bytes", maxBatch)
	}
	a.parts = append(a.parts, d)
	if d.More {
		return false, nil
	}
	parts := a.parts
	a.parts, a.size = nil, 0
	n, err := a.apply(parts, d)
	if err != nil {
		return false, err
	}
	sink.Together(n.give)
	return true, nil
}

// objects is a batch of news in whole objects.
type objects struct {
	reset    bool
	set      map[Kind]map[string]Object
	gone     map[Kind]map[string]struct{}
	versions map[string]uint64
	asked    []string
}

func (n *objects) give(sink Sink) {
	for _, kind := range Kinds() {
		if n.reset {
			all := make([]Object, 0, len(n.set[kind]))
			for _, o := range n.set[kind] {
				all = append(all, o)
			}
			sink.Replace(kind, all, "")
		} else {
			for _, o := range n.set[kind] {
				sink.Set(kind, o)
			}
			for name := range n.gone[kind] {
				sink.Delete(kind, name, "")
			}
		}
	}
	for kind, v := range n.versions {
		if slices.Contains(n.asked, kind) {
			sink.Awaited(Kind(kind), strconv.FormatUint(v, 10))
		} else {
			sink.Reached(Kind(kind), strconv.FormatUint(v, 10))
		}
	}
	for _, kind := range n.asked {
		if n.versions[kind] == 0 {
			sink.Awaited(Kind(kind), "")
		}
	}
}

// apply brings a batch into the items and builds the objects that changed.
func (a *assembler) apply(parts []*wire.Down, last *wire.Down) (*objects, error) {
	if last.Reset {
		a.forget()
		a.meta = nil
	}
	n := &objects{
		reset: last.Reset, set: map[Kind]map[string]Object{}, gone: map[Kind]map[string]struct{}{},
		versions: last.Versions, asked: last.Asked,
	}
	touched := map[Kind]map[string]struct{}{NodeState: {}, NodeEndpoints: {}, SetCatalog: {}}
	for _, part := range parts {
		for i := range part.Changes {
			c := &part.Changes[i]
			if err := a.change(c, n, touched); err != nil {
				return nil, fmt.Errorf("reading %s %s %s: %w", c.Kind, c.Name, c.ID, err)
			}
		}
	}
	for name := range touched[NodeEndpoints] {
		if err := rebuild(n, NodeEndpoints, name, a.endpoints[name], newNodeEndpoints); err != nil {
			return nil, err
		}
	}
	for name := range touched[SetCatalog] {
		if err := rebuild(n, SetCatalog, name, a.catalogs[name], newSetCatalog); err != nil {
			return nil, err
		}
	}
	return n, a.ownState(n, last, len(touched[NodeState]) > 0)
}

func (a *assembler) change(c *wire.Change, n *objects, touched map[Kind]map[string]struct{}) error {
	switch kind := Kind(c.Kind); kind {
	case NodeState:
		if c.Name != a.node {
			return fmt.Errorf("it is not this node's, %s", a.node)
		}
		keep(a.state, c)
		touched[kind][c.Name] = struct{}{}
	case NodeEndpoints:
		keepIn(a.endpoints, c)
		touched[kind][c.Name] = struct{}{}
	case SetCatalog:
		keepIn(a.catalogs, c)
		touched[kind][c.Name] = struct{}{}
	case NodeNetwork:
		o := &v1alpha1.NodeNetwork{ObjectMeta: metav1.ObjectMeta{Name: c.Name}}
		return n.single(kind, c, o, &o.Spec)
	case PolicyProgram:
		o := &v1alpha1.PolicyProgram{ObjectMeta: metav1.ObjectMeta{Name: c.Name}}
		return n.single(kind, c, o, &o.Spec)
	}
	return nil // of a kind that a newer operator has
}

func keep(items map[string]cbor.RawMessage, c *wire.Change) {
	if c.Item == nil {
		delete(items, c.ID)
		return
	}
	items[c.ID] = bytes.Clone(c.Item) // not the whole message
}

func keepIn(of map[string]map[string]cbor.RawMessage, c *wire.Change) {
	if of[c.Name] == nil {
		of[c.Name] = map[string]cbor.RawMessage{}
	}
	keep(of[c.Name], c)
	if len(of[c.Name]) == 0 {
		delete(of, c.Name)
	}
}

func (n *objects) single(kind Kind, c *wire.Change, o Object, spec any) error {
	if c.Item == nil {
		n.putGone(kind, c.Name)
		return nil
	}
	if err := (wire.Codec{}).Unmarshal(c.Item, spec); err != nil {
		return err
	}
	n.put(kind, o)
	return nil
}

func (n *objects) put(kind Kind, o Object) {
	if n.set[kind] == nil {
		n.set[kind] = map[string]Object{}
	}
	n.set[kind][o.GetName()] = o
}

func (n *objects) putGone(kind Kind, name string) {
	if n.gone[kind] == nil {
		n.gone[kind] = map[string]struct{}{}
	}
	n.gone[kind][name] = struct{}{}
}

// rebuild puts an object together out of its items, in order of their ID.
func rebuild[T any](n *objects, kind Kind, name string, items map[string]cbor.RawMessage, build func(string, []T) Object) error {
	if len(items) == 0 {
		n.putGone(kind, name)
		return nil
	}
	list, err := listOf[T](items)
	if err != nil {
		return fmt.Errorf("reading %s %s: %w", kind, name, err)
	}
	n.put(kind, build(name, list))
	return nil
}

func listOf[T any](items map[string]cbor.RawMessage) ([]T, error) {
	ids := make([]string, 0, len(items))
	for id := range items {
		if id != "" {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, cmp.Compare[string])
	list := make([]T, len(ids))
	for i, id := range ids {
		if err := (wire.Codec{}).Unmarshal(items[id], &list[i]); err != nil {
			return nil, fmt.Errorf("item %s: %w", id, err)
		}
	}
	return list, nil
}

func newNodeEndpoints(name string, list []v1alpha1.RemoteEndpoint) Object {
	return &v1alpha1.NodeEndpoints{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       v1alpha1.NodeEndpointsSpec{Count: int32(len(list)), Endpoints: list},
	}
}

func newSetCatalog(name string, list []v1alpha1.Set) Object {
	return &v1alpha1.SetCatalog{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       v1alpha1.SetCatalogSpec{Count: int32(len(list)), Sets: list},
	}
}

// ownState builds the node's own object. Until the API has it as it is now it has no generation: it is newer than the one known.
func (a *assembler) ownState(n *objects, last *wire.Down, changed bool) error {
	if !changed && last.State == nil {
		return nil
	}
	if last.State != nil {
		switch {
		case last.State.Status != nil:
			a.status = last.State.Status
		case a.meta != nil && a.meta.UID != last.State.UID:
			a.status, a.renewed = nil, true
		}
		a.meta = last.State
	}
	head, ok := a.state[""]
	if !ok {
		n.putGone(NodeState, a.node)
		return nil
	}
	o := &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: a.node}}
	if err := (wire.Codec{}).Unmarshal(head, &o.Spec); err != nil {
		return fmt.Errorf("reading NodeState: %w", err)
	}
	var err error
	if o.Spec.Endpoints, err = listOf[v1alpha1.Endpoint](a.state); err != nil {
		return fmt.Errorf("reading NodeState: %w", err)
	}
	if last.State != nil {
		o.UID, o.Generation, o.ResourceVersion = a.meta.UID, a.meta.Generation, strconv.FormatUint(a.meta.Version, 10)
	}
	if a.status != nil {
		o.Status = *a.status
	}
	n.put(NodeState, o)
	return nil
}
