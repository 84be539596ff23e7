// Package wire is what operator and node agents say to each other on the stream: one call of gRPC in both directions, whose messages are
// encoded in CBOR (RFC 8949). There is no schema beside these types: both ends are built from one source, and either leaves out what it
// does not know of the other's.
package wire

import (
	"github.com/fxamacker/cbor/v2"
	"google.golang.org/grpc"
	"k8s.io/apimachinery/pkg/types"

	"github.com/manul-net/manul/api/v1alpha1"
)

const (
	// Port that every replica of the operator serves, TCP.
	Port = 5473
	// ServiceName is the headless Service of all replicas, and the ConfigMap with the certificates to trust.
	ServiceName = "manul-stream"
	// Audience of the tokens that agents show.
	Audience = "manul-stream"
	// Trusted is the key of the ConfigMap: certificates in PEM.
	Trusted = "ca.crt"
	// Follow is the method's full name.
	Follow = "/manul.stream.v1.Stream/Follow"
	// Relay is the full name of the method by which a replica tells the one that writes what agents say.
	Relay = "/manul.stream.v1.Stream/Relay"

	// MaxUp bounds a message to the operator, bytes: a status has at most 64 failures and the pods of a node. ([EncodeUp] has the other bound.)
	MaxUp = 1 << 20
	// MaxDown bounds a message to an agent, bytes. What belongs together may come in several.
	MaxDown = 4 << 20

	// WindowUp is how much the operator may be sent ahead of what it reads, bytes (RFC 9113, section 5.2). It is fixed, for otherwise gRPC measures how
	// large it should be, with a ping and its answer for almost every message on a quiet stream.
	WindowUp = 64 << 10
	// WindowDown is the same for an agent: all that a node is told at first, or most of it.
	WindowDown = 1 << 20
)

// ServerName is the name in the operator's certificate.
func ServerName(namespace string) string { return ServiceName + "." + namespace + ".svc" }

// Up is a message to the operator. The first has Hello and nothing else.
type Up struct {
	Hello *Hello `cbor:"1,keyasint,omitempty"`
	// Received is the cursor of the last batch that came whole.
	Received uint64 `cbor:"2,keyasint,omitempty"`
	// Report is the node's status.
	Report *v1alpha1.NodeStateStatus `cbor:"3,keyasint,omitempty"`
}

// Hello says who the agent is and what it has: all up to a cursor of an epoch. Without an epoch it has nothing.
type Hello struct {
	Node    string `cbor:"1,keyasint"`
	Epoch   string `cbor:"2,keyasint,omitempty"`
	Cursor  uint64 `cbor:"3,keyasint,omitempty"`
	Version string `cbor:"4,keyasint,omitempty"` // of the agent, for the log
}

// Down is a message to an agent: a batch of news or a part of one. A batch takes effect when its last part has come, at once.
type Down struct {
	// Epoch tells whose cursors these are; in the first message.
	Epoch string `cbor:"1,keyasint,omitempty"`
	// Cursor of the batch.
	Cursor uint64 `cbor:"2,keyasint"`
	// Reset: what the batch does not give is gone.
	Reset bool `cbor:"3,keyasint,omitempty"`
	// More: the batch goes on in the next message.
	More    bool     `cbor:"4,keyasint,omitempty"`
	Changes []Change `cbor:"5,keyasint,omitempty"`
	// Versions: kind -> resource version of the API up to which the node knows all of the kind that concerns it.
	Versions map[string]uint64 `cbor:"6,keyasint,omitempty"`
	// Asked are the kinds of which the operator waits to hear that they are in effect.
	Asked []string `cbor:"7,keyasint,omitempty"`
	// State is the node's own object in the API.
	State *State `cbor:"8,keyasint,omitempty"`
	// Writes: the replica writes the API's objects (it is the leader) or tells the one that does, so what it is told need not be told through
	// the API soon.
	Writes *bool `cbor:"9,keyasint,omitempty"`
}

// State is what the API server adds to a NodeState.
type State struct {
	UID        types.UID `cbor:"1,keyasint"`
	Generation int64     `cbor:"2,keyasint"`
	Version    uint64    `cbor:"3,keyasint"`
	// Status that an agent gave earlier; with Reset only.
	Status *v1alpha1.NodeStateStatus `cbor:"4,keyasint,omitempty"`
}

// Change is an item of a rendered object: a pod of a NodeState, an endpoint of NodeEndpoints, a set of a SetCatalog, or with an empty ID
// the part of an object that is no such list.
type Change struct {
	Kind string `cbor:"1,keyasint"`
	Name string `cbor:"2,keyasint"`
	ID   string `cbor:"3,keyasint,omitempty"`
	// Item in CBOR, with the field names of its JSON form. None: it is gone, or concerns the node no more.
	Item cbor.RawMessage `cbor:"4,keyasint,omitempty"`
}

// Listening is what the replica that writes says to one that does not: it may tell. Any other ends the call.
type Listening struct{}

// Relayed is what an agent said to a replica that does not write.
type Relayed struct {
	Node   string                    `cbor:"1,keyasint"`
	Report *v1alpha1.NodeStateStatus `cbor:"2,keyasint"`
}

// RelayDesc describes the call among replicas to gRPC.
func RelayDesc() *grpc.StreamDesc {
	return &grpc.StreamDesc{StreamName: "Relay", ServerStreams: true, ClientStreams: true}
}

// Desc describes the call to gRPC.
func Desc() *grpc.StreamDesc {
	return &grpc.StreamDesc{StreamName: "Follow", ServerStreams: true, ClientStreams: true}
}

// Service describes the service to a gRPC server.
func Service(follow, relay func(grpc.ServerStream) error) *grpc.ServiceDesc {
	agents, replicas := *Desc(), *RelayDesc()
	agents.Handler = func(_ any, stream grpc.ServerStream) error { return follow(stream) }
	replicas.Handler = func(_ any, stream grpc.ServerStream) error { return relay(stream) }
	return &grpc.ServiceDesc{ServiceName: "manul.stream.v1.Stream", HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{agents, replicas}}
}
