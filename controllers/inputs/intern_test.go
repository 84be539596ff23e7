package inputs

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	corev1 "k8s.io/api/core/v1"
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

func trimmed(tb testing.TB, p *corev1.Pod) *corev1.Pod {
	tb.Helper()
	got, err := Trim(p)
	if err != nil {
		tb.Fatal(err)
	}
	out, ok := got.(*corev1.Pod)
	if !ok {
		tb.Fatalf("got %T", got)
	}
	return out
}

// TestPodsShareWhatTheyHaveInCommon: pods of one Deployment have one set of labels, and whatever else is the same is there once.
func TestPodsShareWhatTheyHaveInCommon(t *testing.T) {
	a, b, other := trimmed(t, decoded(t, 1, 1)), trimmed(t, decoded(t, 101, 1)), trimmed(t, decoded(t, 201, 2))
	if reflect.ValueOf(a.Labels).Pointer() != reflect.ValueOf(b.Labels).Pointer() {
		t.Error("two pods of a Deployment have a set of labels each")
	}
	if maps.Equal(a.Labels, other.Labels) || other.Labels["app"] != "app-2" {
		t.Errorf("another Deployment's pod has labels %v", other.Labels)
	}
	for what, of := range map[string][2]string{
		"namespace": {a.Namespace, b.Namespace}, "node": {a.Spec.NodeName, other.Spec.NodeName}, "account": {a.Spec.ServiceAccountName, other.Spec.ServiceAccountName},
	} {
		if of[0] != of[1] || unsafe.StringData(of[0]) != unsafe.StringData(of[1]) {
			t.Errorf("%s: %q and %q are not one text", what, of[0], of[1])
		}
	}
	if got := trimmed(t, &corev1.Pod{}); got.Labels != nil {
		t.Errorf("a pod without labels has %v", got.Labels)
	}
}

// TestWhatIsSharedIsBounded: what is not seen any more is forgotten, and what is seen again and again is not.
func TestWhatIsSharedIsBounded(t *testing.T) {
	s := shared[string]{max: 10}
	often := s.get("often", "often")
	for i := range 1000 {
		s.get(fmt.Sprint(i), fmt.Sprint(i))
		if got := s.get("often", strings.Clone("often")); unsafe.StringData(got) != unsafe.StringData(often) {
			t.Fatalf("what is seen all the time was forgotten after %d others", i)
		}
	}
	if n := len(s.young) + len(s.old); n > 20 {
		t.Errorf("%d are remembered", n)
	}
}

// BenchmarkTrimmedPods prints how much memory a pod takes in the cache, of 10,000 in Deployments of ten.
func BenchmarkTrimmedPods(b *testing.B) {
	const pods = 10_000
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		kept := make([]*corev1.Pod, 0, pods)
		for i := range pods {
			kept = append(kept, trimmed(b, decoded(b, i, i/10)))
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric((float64(after.HeapAlloc)-float64(before.HeapAlloc))/pods, "B/pod")
		runtime.KeepAlive(kept)
	}
}
