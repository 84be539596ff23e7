package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/manul-net/manul/test/bench/clusters"
)

func TestMain(m *testing.M) {
	if isChild() {
		os.Exit(child())
	}
	os.Exit(m.Run())
}

// TestSmallCluster is a run with 50 nodes: agents restart, an operator is killed and another takes over, and all along the nodes decide as
// the users' objects say.
func TestSmallCluster(t *testing.T) {
	o := &options{
		Shape: clusters.Shape{Nodes: 50, Pods: 600, Policies: 200, Namespaces: 10, Seed: 1},
		churn: 50, duration: 3 * time.Second, restart: 0.1, leader: true, sample: 5, patience: time.Minute,
	}
	out := &bytes.Buffer{}
	p, err := run(t.Context(), o, out)
	t.Log(out.String())
	if err != nil {
		t.Fatal(err)
	}
	if p.push.N == 0 || p.agent.N == 0 || p.operator <= 0 || p.liveLast == 0 || p.largest == 0 || p.takeover == 0 || p.concerned < 1 {
		t.Errorf("nothing was measured of something: %+v", *p)
	}
	for _, want := range []string{
		"| cold start: compiled, rendered and on the board | 1 |",
		"| all 50 agents join and are told everything | 1 |",
		"| a pod gets another label: each node is told that has a policy about it |",
		"| a pod comes: its own node is told |",
		"| a pod goes: the last of these is told |",
		"| agents that began anew meanwhile | 5 |",
		"| streams lost otherwise | 0 |",
		"after another operator took over",
		"| SetCatalog |",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q", want)
		}
	}
}

// TestTheSameShapeIsTheSameCluster: figures can be compared only if the cluster is the same.
func TestTheSameShapeIsTheSameCluster(t *testing.T) {
	shape := clusters.Shape{Nodes: 7, Pods: 100, Policies: 150, Namespaces: 3, Seed: 5}
	text := func() string {
		h := newHub()
		var lines []string
		clusters.New(shape).Objects(func(o runtime.Object) {
			x, err := encode(o, false)
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, nameOf(o)+" "+string(x.JSON))
			if err := h.Set(o); err != nil {
				t.Fatal(err)
			}
		})
		if len(h.objects) != len(lines) {
			t.Errorf("%d objects have %d names", len(lines), len(h.objects))
		}
		return strings.Join(lines, "\n")
	}
	if one, other := text(), text(); one != other {
		t.Error("two clusters of one shape differ")
	}
	c := clusters.New(shape)
	for i := range 2 * shape.Pods {
		if n, ok := clusters.NumberOf(c.PodID(i)); !ok || n != i || c.PodID(i) != c.Pod(i, 0).Namespace+"/"+c.Pod(i, 0).Name {
			t.Errorf("pod %d is %s, of number %d", i, c.PodID(i), n)
		}
	}
}

func TestWrongShapesAreRefused(t *testing.T) {
	for _, o := range []options{
		{sample: 1},
		{Shape: clusters.Shape{Nodes: 1, Pods: 1}, sample: 1},
		{Shape: clusters.Shape{Nodes: 1, Pods: 1, Namespaces: 1}},
		{Shape: clusters.Shape{Nodes: 1, Pods: 1, Namespaces: 1}, sample: 2},
		{Shape: clusters.Shape{Nodes: 1, Namespaces: 1}, sample: 1},
	} {
		if _, err := run(t.Context(), &o, &bytes.Buffer{}); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}
