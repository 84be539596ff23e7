package addresses

import (
	"os"
	"testing"

	"github.com/go-logr/logr"
	"pgregory.net/rapid"
	"sigs.k8s.io/controller-runtime/pkg/log"

	v3 "github.com/manul-net/manul/api/v3"
)

// TestPropertyNothingIsLentWithoutConsent is about the moments in which addresses change hands. A node needs more than there are blocks, and
// what the others have in use, they alone know. Whoever sees, does and says what in whatever order, no address belongs to two pods.
func TestPropertyNothingIsLentWithoutConsent(t *testing.T) {
	log.SetLogger(logr.Discard())
	directory := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		own, err := os.MkdirTemp(directory, "") //nolint:usetesting // rapid's T has no directory, and the test's would keep those of all runs
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.RemoveAll(own) }() // the directory around it goes too
		l := newLife(t, own, 0)
		defer l.close()
		operator := func(t *rapid.T) int { return rapid.IntRange(0, 1).Draw(t, "operator") }
		l.pool("other", func(s *v3.IPPoolSpec) { s.AssignmentMode = v3.AssignmentManual })
		l.round(t)
		needy := rapid.IntRange(0, len(l.nodes)-1).Draw(t, "needy")
		for i, n := range l.nodes {
			if i != needy {
				l.secretly(n, rapid.IntRange(0, 2).Draw(t, "pods that only the node knows"), operator(t))
			}
		}
		for range rapid.IntRange(4, 8).Draw(t, "pods") {
			l.addPod(l.nodes[needy].name)
		}
		t.Repeat(map[string]func(*rapid.T){
			"operators work":    func(t *rapid.T) { l.work(operator(t)) },
			"an operator works": func(t *rapid.T) { l.work(operator(t)) },
			"operator looks":    func(t *rapid.T) { l.ok(l.operators[operator(t)].look()) },
			"operator plans":    func(t *rapid.T) { l.plan(operator(t), -1) },
			"operator ends":     func(t *rapid.T) { l.plan(operator(t), rapid.IntRange(0, 4).Draw(t, "writes")) },
			"operator writes":   func(t *rapid.T) { l.operators[operator(t)].render(l.names()) },
			"node hears":        func(t *rapid.T) { l.ok(l.alive(t).hear()) },
			"a node hears":      func(t *rapid.T) { l.ok(l.alive(t).hear()) },
			"needy node hears":  func(*rapid.T) { l.ok(l.nodes[needy].hear()) },
			"node speaks":       func(t *rapid.T) { l.ok(l.alive(t).say()) },
			"agent restarts":    func(t *rapid.T) { l.ok(l.alive(t).restart(rapid.IntRange(0, 3).Draw(t, "earlier"))) },
			"pod comes":         func(t *rapid.T) { l.addPod(l.alive(t).name) },
			"":                  l.check,
		})
		l.heal()
	})
}
