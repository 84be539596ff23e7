package agent

import (
	"testing"

	"github.com/manul-net/manul/nodeagent/render"
)

// TestNewsOfAGenerationThatIsKnown: who is told everything anew by the stream hears the generation that the API has, with content that may
// be newer than that: the operator has yet to write it. It may not wait for that.
func TestNewsOfAGenerationThatIsKnown(t *testing.T) {
	bubble(t, func(t *testing.T, l *lab) {
		l.sync(l.state(3, nil, "n/a"))
		l.sync(l.state(3, nil, "n/a", "n/b"))
		if _, ok := l.policy.endpoint(render.InterfaceName("n/b")); !ok {
			t.Error("a pod that came while the stream was away is not prepared")
		}
		if s := l.source.last(t).Status; len(s.Endpoints) != 2 || s.ObservedGeneration != 3 {
			t.Errorf("reported: generation %d, endpoints %v", s.ObservedGeneration, s.Endpoints)
		}
		applied, flushes := l.policy.count(), l.checkpoint.flushes
		l.sync(l.state(3, nil, "n/a", "n/b"))
		if l.policy.count() != applied || l.checkpoint.flushes != flushes {
			t.Error("the same content again was taken for news")
		}
	})
}
