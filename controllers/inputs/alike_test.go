package inputs

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"runtime"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/manul-net/manul/internal/render"
)

// decoded is a pod as a watch brings it: nothing of it is shared with another.
func decoded(tb testing.TB, number, deployment int) *corev1.Pod {
	tb.Helper()
	text := fmt.Sprintf(`{"metadata": {"namespace": "team-%[2]d", "name": "app-%[1]d", "labels": {
		"app": "app-%[2]d", "pod-template-hash": "5d8f9c7b%[2]d", "app.kubernetes.io/part-of": "shop", "tier": "backend"}},
		"spec": {"nodeName": "worker-%[3]d", "serviceAccountName": "default"}}`, number, deployment, number%100)
	p := &corev1.Pod{}
	if err := json.Unmarshal([]byte(text), p); err != nil {
		tb.Fatal(err)
	}
	return p
}

func trimmed(tb testing.TB, trim func(any) (any, error), p *corev1.Pod) *render.Pod {
	tb.Helper()
	got, err := trim(p)
	if err != nil {
		tb.Fatal(err)
	}
	out, ok := got.(*render.Pod)
	if !ok {
		tb.Fatalf("got %T", got)
	}
	return out
}

// TestPodsShareWhatTheyHaveInCommon: pods of one Deployment have one set of labels, and another's have their own.
func TestPodsShareWhatTheyHaveInCommon(t *testing.T) {
	trim := NewTrim()
	a, b, other := trimmed(t, trim, decoded(t, 1, 1)), trimmed(t, trim, decoded(t, 101, 1)), trimmed(t, trim, decoded(t, 201, 2))
	if reflect.ValueOf(a.Labels).Pointer() != reflect.ValueOf(b.Labels).Pointer() {
		t.Error("two pods of a Deployment have a set of labels each")
	}
	if maps.Equal(a.Labels, other.Labels) || other.Labels["app"] != "app-2" {
		t.Errorf("another Deployment's pod has labels %v", other.Labels)
	}
	if got := trimmed(t, trim, &corev1.Pod{}); len(got.Labels) > 0 {
		t.Errorf("a pod without labels has %v", got.Labels)
	}
}

// BenchmarkTrimmedPods prints how much memory a pod takes in the cache, of 10,000 in Deployments of ten.
func BenchmarkTrimmedPods(b *testing.B) {
	const pods = 10_000
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		trim := NewTrim()
		kept := make([]*render.Pod, 0, pods)
		for i := range pods {
			kept = append(kept, trimmed(b, trim, decoded(b, i, i/10)))
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric((float64(after.HeapAlloc)-float64(before.HeapAlloc))/pods, "B/pod")
		runtime.KeepAlive(kept)
	}
}
