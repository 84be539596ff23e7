package wire

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/manul-net/manul/api/v1alpha1"
)

const mostDecoded = 16 << 20

// list is a list of the same item over and over again, in CBOR.
func list(item []byte, n int) []byte {
	return append([]byte{0x9a, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, bytes.Repeat(item, n)...)
}

// under puts an item under a key of a map, and that map under the next.
func under(item []byte, keys ...any) []byte {
	for _, key := range keys {
		raw, _ := cbor.Marshal(key) // a number or a text
		item = append(append([]byte{0xa1}, raw...), item...)
	}
	return item
}

// allocated is what f allocates, bytes.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestWhatAMessageToTheOperatorDecodesTo: a message of the largest size that says as much as can be said in it is refused before it takes
// memory; so is one that says how long a list is, without the list.
func TestWhatAMessageToTheOperatorDecodesTo(t *testing.T) {
	const report = 3
	none, empty := []byte{0xa0}, []byte{0x60}
	room := MaxUp - 64
	deep := bytes.Repeat(append([]byte{0x8f}, bytes.Repeat([]byte{0xa0}, 15)...), room/16)
	for _, c := range []struct {
		name    string
		message []byte
	}{
		{"nothing but empty endpoints", under(list(none, room), "endpoints", report)},
		{"nothing but empty failures", under(list(none, room), "failures", report)},
		{"nothing but empty attachments", under(list(none, room), "attachments", report)},
		{"nothing but empty sessions", under(list(none, room), "sessions", "report", report)},
		{"nothing but empty addresses", under(list(empty, room), "nodeAddresses", report)},
		{"an endpoint of empty interfaces", under(list(under(list(none, room), "others"), 1), "endpoints", report)},
		{"endpoints of a few empty interfaces each", under(list(under(list(none, 16), "others"), room/32), "endpoints", report)},
		{"lists in a list", under(append(list(nil, 0)[:1], append([]byte{0, 0, byte(room / 16 >> 8), byte(room / 16 & 0xff)}, deep...)...), "endpoints", report)},
		{"as many endpoints as 32 bits can say, and none of them", under([]byte{0x9a, 0xff, 0xff, 0xff, 0xff}, "endpoints", report)},
		{"as many endpoints as 64 bits can say", under([]byte{0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, "endpoints", report)},
		{"a list without an end", under(append([]byte{0x9f}, bytes.Repeat(none, room)...), "endpoints", report)},
		{"a text that is longer than the message", under([]byte{0x7b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, "carrier", report)},
	} {
		t.Run(c.name, func(t *testing.T) {
			if len(c.message) > MaxUp {
				t.Fatalf("the test's message has %d bytes", len(c.message))
			}
			var err error
			took := allocated(func() { err = Codec{}.Unmarshal(c.message, &Up{}) })
			if err == nil {
				t.Error("it was taken")
			}
			if took > 1<<20 {
				t.Errorf("%d bytes were allocated", took)
			}
		})
	}
}

// TestWhatFitsIsBounded: what is taken at the limit allocates no more than is promised, whatever field it is in.
func TestWhatFitsIsBounded(t *testing.T) {
	const report, n = 3, maxUpItems - 16
	for _, field := range []string{"endpoints", "failures", "attachments", "leases", "bgpSessions", "bgpGroups", "tunnels"} {
		message := under(list([]byte{0xa0}, n), field, report)
		up := &Up{}
		var err error
		took := allocated(func() { err = Codec{}.Unmarshal(message, up) })
		if err != nil {
			t.Errorf("%s: %v", field, err)
		}
		if took > mostDecoded {
			t.Errorf("%s: %d bytes were allocated, want %d at most", field, took, mostDecoded)
		}
	}
	// No field that somebody adds makes it more.
	largest(t, map[reflect.Type]bool{}, reflect.TypeFor[Up]())
	largest(t, map[reflect.Type]bool{}, reflect.TypeFor[Relayed]())
}

// largest looks at whatever a type may have decoding allocate for one item.
func largest(t *testing.T, seen map[reflect.Type]bool, typ reflect.Type) {
	t.Helper()
	if seen[typ] {
		return
	}
	seen[typ] = true
	switch typ.Kind() { //nolint:exhaustive // the others have nothing in them
	case reflect.Slice:
		if size := typ.Elem().Size() * maxUpItems; size > mostDecoded {
			t.Errorf("a message of empty %s takes %d bytes, want %d at most", typ.Elem(), size, mostDecoded)
		}
		largest(t, seen, typ.Elem())
	case reflect.Pointer, reflect.Map, reflect.Array:
		largest(t, seen, typ.Elem())
	case reflect.Struct:
		for field := range typ.Fields() {
			largest(t, seen, field.Type)
		}
	}
}

// statusOf is what the agent of a node with so many pods says.
func statusOf(pods int) *v1alpha1.NodeStateStatus {
	s := &v1alpha1.NodeStateStatus{
		ObservedGeneration: 7, Applied: map[string]string{"PolicyProgram": "123"}, Carrier: v1alpha1.CarrierStream, Sequence: 1764374400000,
		BGPSessions: []v1alpha1.BGPSessionStatus{{Name: "mesh", Since: metav1.NewTime(time.Unix(1764374400, 0))}},
	}
	for i := range pods {
		s.Endpoints = append(s.Endpoints, v1alpha1.EndpointStatus{
			ID: fmt.Sprintf("team-%d/pod-%d", i%10, i), UID: "5f0c2f0e-6d0f-4c54-a1f9-1f2d3c4b5a69", Addresses: []string{"10.64.128.129", "2001:db8::1:2:3"},
		})
	}
	return s
}

// TestWhatAnAgentSaysFits: who encodes knows what would be refused, and what is not is read as it was.
func TestWhatAnAgentSaysFits(t *testing.T) {
	for _, c := range []struct {
		name  string
		up    *Up
		large bool
	}{
		{"of 110 pods", &Up{Report: statusOf(110)}, false},
		{"of 5,000 pods", &Up{Report: statusOf(5000)}, false},
		{"of too many pods", &Up{Report: statusOf(12000)}, true},
		{"of too many items in few bytes", &Up{Report: &v1alpha1.NodeStateStatus{NodeAddresses: make([]string, maxUpItems)}}, true},
		{"of a text without end", &Up{Report: &v1alpha1.NodeStateStatus{Failures: []v1alpha1.Failure{{Message: strings.Repeat("x", MaxUp)}}}}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw, err := EncodeUp(c.up)
			if c.large {
				if !errors.Is(err, ErrTooLarge) {
					t.Fatalf("got %v, want that it is too large", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := &Up{}
			if err := (Codec{}).Unmarshal(raw, got); err != nil {
				t.Fatal(err)
			}
			again, err := EncodeUp(got)
			if err != nil || !bytes.Equal(raw, again) {
				t.Errorf("it was read as something else: %v", err)
			}
		})
	}
}

// TestItems counts as RFC 8949 does.
func TestItems(t *testing.T) {
	for _, v := range []struct {
		value any
		want  int
	}{
		{1, 1},
		{"x", 1},
		{strings.Repeat("x", 70000), 1},
		{[]byte{0x80, 0x80}, 1},
		{[]int{}, 1},
		{[]int{1, 1000, 1 << 40}, 4},
		{map[string]int{"a": 1, "b": 300}, 5},
		{[][]int{{1}, {2, 3}}, 6},
		{3.5, 1},
		{nil, 1},
		{cbor.Tag{Number: 1000, Content: "x"}, 2},
	} {
		raw, err := cbor.Marshal(v.value)
		if err != nil {
			t.Fatal(err)
		}
		if got := items(raw); got != v.want {
			t.Errorf("%x has %d items, want %d", raw, got, v.want)
		}
	}
}

// FuzzUnmarshal: no bytes make the decoder panic, or allocate more than is promised; and what it takes it can say again.
func FuzzUnmarshal(f *testing.F) {
	for _, v := range []any{
		&Up{Hello: &Hello{Node: "n1", Epoch: "e", Cursor: 3}}, &Up{Report: statusOf(3)}, &Relayed{Node: "n1", Report: statusOf(1)},
		&Down{Epoch: "e", Changes: []Change{{Kind: "SetCatalog", Name: "x", Item: cbor.RawMessage{0xa0}}}, State: &State{UID: "u"}},
	} {
		raw, err := Codec{}.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Add(under(list([]byte{0xa0}, 1000), "endpoints", 3))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > MaxUp {
			return
		}
		for _, v := range []any{&Up{}, &Relayed{}, &Down{}} {
			var err error
			decode := func() { err = Codec{}.Unmarshal(data, v) }
			if _, down := v.(*Down); down || len(data) < 4<<10 { // to look at memory stops the world
				decode()
			} else if took := allocated(decode); took > mostDecoded+uint64(16*len(data)) {
				t.Errorf("%T: %d bytes took %d", v, len(data), took)
			}
			if err == nil {
				if _, err := (Codec{}).Marshal(v); err != nil {
					t.Errorf("%T: %v", v, err)
				}
			}
		}
	})
}
