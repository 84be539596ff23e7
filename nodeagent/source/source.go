// Package source brings rendered objects to a node, and the node's answers back. Whoever follows a Source need not know
// whether the news comes from the API server's watches or from an operator's stream.
package source

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/manul-net/manul/api/v1alpha1"
)

// Source carries news to the node and its status back.
type Source interface {
	// Run brings news to sink until ctx ends. It reconnects by itself, however long that takes; the error tells why it
	// could not even begin, and is nil once ctx has ended.
	Run(ctx context.Context, sink Sink) error
	// Report gives the node's status. It does not wait: the newest report is sent when its time has come.
	Report(Report)
}

// Sink takes news. Its methods may be called from several goroutines at once, but those of one kind come in order. They
// do not block. Objects belong to the sink.
type Sink interface {
	// Replace gives all objects of a kind that there are: any other is gone. It comes first, and again whenever
	// the source cannot tell what was missed.
	Replace(kind Kind, objects []Object, version string)
	// Set gives an object that is new or has changed.
	Set(kind Kind, object Object)
	// Delete tells that an object is gone, as of a version.
	Delete(kind Kind, name, version string)
	// Reached tells that there is no other news of the kind up to a version.
	Reached(kind Kind, version string)
	// Awaited is Reached, and tells that somebody waits to hear that all of that is in effect.
	Awaited(kind Kind, version string)
	// Together has all the news that give gives come at once: nobody sees a part of it.
	Together(give func(Sink))
}

// Report is a node's status.
type Report struct {
	Status v1alpha1.NodeStateStatus
	// Urgent: somebody waits for what is new in it, such as the address of a new pod.
	Urgent bool
	// After is the highest sequence that the node's object has been seen with: this report is newer, even if the node's clock went back.
	After int64
}

// Object is a rendered object.
type Object interface {
	metav1.Object
	runtime.Object
}

// Kind of rendered objects.
type Kind string

// The kinds that an agent follows.
const (
	NodeState     Kind = "NodeState"
	NodeEndpoints Kind = "NodeEndpoints"
	NodeNetwork   Kind = "NodeNetwork"
	PolicyProgram Kind = "PolicyProgram"
	SetCatalog    Kind = "SetCatalog"
)

// Kinds lists all kinds.
func Kinds() []Kind { return []Kind{NodeState, NodeNetwork, SetCatalog, PolicyProgram, NodeEndpoints} }
