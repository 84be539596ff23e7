package source

import (
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/manul-net/manul/internal/wire"
)

// dropped takes no news.
type dropped struct{}

func (dropped) Replace(Kind, []Object, string)  {}
func (dropped) Set(Kind, Object)                {}
func (dropped) Delete(Kind, string, string)     {}
func (dropped) Reached(Kind, string)            {}
func (dropped) Awaited(Kind, string)            {}
func (d dropped) Together(give func(sink Sink)) { give(d) }

// Of what came by the stream and concerns the node no more nothing is kept, and of a message no more than the items that are.
func TestItemsThatConcernTheNodeNoMoreAreDropped(t *testing.T) {
	a := newAssembler("node1")
	item := func(v any) []byte {
		raw, err := wire.Codec{}.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	whole := func(name string) []wire.Change {
		return []wire.Change{
			{Kind: string(NodeState), Name: "node1", ID: name, Item: item(map[string]any{"id": name})},
			{Kind: string(NodeEndpoints), Name: "node2", ID: name, Item: item(map[string]any{"id": name})},
			{Kind: string(SetCatalog), Name: "sets-aa", ID: name, Item: item(map[string]any{"id": name})},
			{Kind: string(PolicyProgram), Name: name, Item: item(map[string]any{})},
			{Kind: string(NodeNetwork), Name: name, Item: item(map[string]any{})},
		}
	}
	take := func(d *wire.Down) {
		t.Helper()
		if _, err := a.take(d, dropped{}); err != nil {
			t.Fatal(err)
		}
	}
	kept := func() int {
		n := len(a.state) + len(a.parts)
		for _, of := range []map[string]map[string]cbor.RawMessage{a.endpoints, a.catalogs} {
			for _, items := range of {
				n += 1 + len(items)
			}
		}
		return n
	}
	news := whole("one")
	take(&wire.Down{Cursor: 1, Reset: true, Changes: append(whole("two"), news...)})
	if n := kept(); n != 8 {
		t.Fatalf("%d items are kept of two pods, two endpoints of a node and two sets of a shard", n)
	}
	for i := range news[1].Item {
		news[1].Item[i] = 0 // the message's memory is another's by now
	}
	if raw := a.endpoints["node2"]["one"]; raw[0] == 0 {
		t.Error("the message is kept for one of its items")
	}
	gone := append(whole("one"), whole("two")...)
	for i := range gone {
		gone[i].Item = nil
	}
	take(&wire.Down{Cursor: 2, Changes: gone[:5]})
	take(&wire.Down{Cursor: 3, Changes: gone[5:]})
	if n := kept(); n > 0 {
		t.Errorf("%d items are kept of what concerns the node no more", n)
	}
	take(&wire.Down{Cursor: 4, Reset: true, Changes: whole("one")})
	take(&wire.Down{Cursor: 5, Reset: true})
	if n := kept(); n > 0 {
		t.Errorf("%d items are kept though nothing concerns the node", n)
	}
}
