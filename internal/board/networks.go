package board

import (
	"sort"
	"sync"

	"github.com/manul-net/manul/internal/render"
)

// The networks of all nodes concern every node. So that this costs no entry for each pair of nodes, they are kept once: a list of what
// has changed, newest last, of which each subscription remembers how far it has come, and for who begins a collection that all share.

// networks are those of all nodes.
type networks struct {
	items map[string]*Item // by node
	// changes, of which those up to the cursor forgotten are not kept any more.
	changes   []networkChange
	forgotten uint64
	// all is the collection for who begins, as of the cursor allAt; nil: there is none that holds.
	all   *Collection
	allAt uint64
}

type networkChange struct {
	cursor uint64
	node   string
}

const (
	// fewChanges are always kept; more only in proportion to the number of networks.
	fewChanges = 1024
	// staleShare: a collection is used while what has changed since is less than that share of it.
	staleShare = 16
)

func newNetworks() networks { return networks{items: map[string]*Item{}} }

func networkKey(node string) ItemKey {
	return ItemKey{Key: render.Key{Kind: render.KindNodeNetwork, Name: node}}
}

// changeNetwork notes a node's network; nil when it is gone. All nodes learn of it.
func (b *Board) changeNetwork(node string, now *Item, woken map[*Subscription]struct{}) {
	n := &b.networks
	if now == nil {
		delete(n.items, node)
		n.all = nil // what is gone can't be in it
	} else {
		n.items[node] = now
	}
	n.changes = append(n.changes, networkChange{b.cursor, node})
	for _, s := range b.nodes {
		woken[s] = struct{}{}
	}
	if most := max(fewChanges, 2*len(n.items)); len(n.changes) > most {
		b.forgetNetworkChanges(len(n.changes) - most/2)
	}
}

// forgetNetworkChanges drops about so many of the oldest, and none of those that are being put. Nodes that were not told of them by now lack
// these networks like any other item.
func (b *Board) forgetNetworkChanges(count int) {
	n := &b.networks
	for count > 0 && n.changes[count-1].cursor == b.cursor {
		count--
	}
	if count == 0 {
		return
	}
	for count < len(n.changes) && n.changes[count].cursor == n.changes[count-1].cursor {
		count++
	}
	dropped := n.changes[:count]
	n.forgotten = dropped[count-1].cursor
	for _, s := range b.nodes {
		if s.networksTo >= n.forgotten || s.reset {
			continue
		}
		for _, c := range changesAfter(dropped, s.networksTo) {
			s.mark(networkKey(c.node))
		}
		s.networksTo = n.forgotten
	}
	n.changes = append([]networkChange(nil), n.changes[count:]...)
	n.all = nil
}

func changesAfter(changes []networkChange, cursor uint64) []networkChange {
	return changes[sort.Search(len(changes), func(i int) bool { return changes[i].cursor > cursor }):]
}

// since gives the networks that changed after a cursor, each once: their items as they are now, nil for what is gone.
func (n *networks) since(cursor uint64) map[string]*Item {
	changes := changesAfter(n.changes, cursor)
	if len(changes) == 0 {
		return nil
	}
	out := make(map[string]*Item, len(changes))
	for _, c := range changes {
		out[c.node] = n.items[c.node]
	}
	return out
}

// collection gives the networks of all nodes for who begins, and the cursor after which they may have changed.
func (n *networks) collection(cursor uint64) (all *Collection, at uint64) {
	if n.all == nil || len(changesAfter(n.changes, n.allAt))*staleShare > len(n.all.Items) {
		n.all, n.allAt = &Collection{Items: make([]*Item, 0, len(n.items))}, cursor
		for _, item := range n.items {
			n.all.Items = append(n.all.Items, item)
		}
	}
	return n.all, n.allAt
}

// Collection is items that many nodes are told alike. It never changes.
type Collection struct {
	Items []*Item

	once    sync.Once
	encoded [][]byte
	err     error
}

// Encoded gives the messages that tell of the items, made once by whoever asks first.
func (c *Collection) Encoded(encode func([]*Item) ([][]byte, error)) ([][]byte, error) {
	c.once.Do(func() { c.encoded, c.err = encode(c.Items) })
	return c.encoded, c.err
}
