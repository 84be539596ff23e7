package oracle_test

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/test/oracle"
)

// places is where pods may be: their number.
const places = 6

// podName is "namespace/name" of the pod of a place.
func podName(place int) string { return fmt.Sprintf("%s/pod%d", namespaces()[place/2], place) }

func drawWorld(t *rapid.T) *oracle.World {
	w := &oracle.World{Interfaces: interfaces()}
	for _, name := range nodes() {
		w.Nodes = append(w.Nodes, drawNode(t, name))
	}
	for _, name := range namespaces() {
		w.Namespaces = append(w.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: drawLabels(t)}})
		for _, account := range accounts() {
			w.ServiceAccounts = append(w.ServiceAccounts, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: account, Labels: drawLabels(t)}})
		}
	}
	for i := range places {
		if chance(t, 75, "pod exists") {
			w.Pods = append(w.Pods, drawPod(t, i))
		}
	}
	for i := range upTo(t, 2, "network sets") {
		w.NetworkSets = append(w.NetworkSets, &v3.NetworkSet{
			ObjectMeta: metav1.ObjectMeta{Namespace: pick(t, namespaces(), "namespace"), Name: fmt.Sprintf("set%d", i), Labels: drawLabels(t)},
			Spec:       v3.NetworkSetSpec{Nets: drawSetNets(t)},
		})
	}
	for i := range upTo(t, 2, "global network sets") {
		w.GlobalNetworkSets = append(w.GlobalNetworkSets, &v3.GlobalNetworkSet{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("set%d", i), Labels: drawLabels(t)},
			Spec:       v3.GlobalNetworkSetSpec{Nets: drawSetNets(t)},
		})
	}
	drawTiers(t, w)
	w.EndpointSlices = drawSlices(t)
	w.Felix = drawFelix(t)
	w.Pools = drawPools(t)
	w.Translations = drawTranslations(t, w)
	w.HostEndpoints = drawHostEndpoints(t)
	for i := range upTo(t, 2, "Kubernetes policies") {
		w.KubernetesPolicies = append(w.KubernetesPolicies, drawKubernetesPolicy(t, i))
	}
	for i := range upTo(t, 3, "policies") {
		w.NetworkPolicies = append(w.NetworkPolicies, drawNetworkPolicy(t, i))
	}
	for i := range upTo(t, 4, "global policies") {
		w.GlobalPolicies = append(w.GlobalPolicies, drawGlobalPolicy(t, i))
	}
	for i := range upTo(t, 2, "cluster policies") {
		w.ClusterPolicies = append(w.ClusterPolicies, drawClusterPolicy(t, i))
	}
	drawAdminPolicies(t, w)
	drawStaged(t, w)
	return w
}

func drawNode(t *rapid.T, name string) *corev1.Node {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: drawLabels(t)}}
	for _, l := range interfaces() {
		for _, a := range l.Addresses {
			if l.Node == name {
				node.Status.Addresses = append(node.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a.String()})
			}
		}
	}
	return node
}

// podAddress is the address of the pod of a place.
func podAddress(place int, v4 bool) string {
	return family(v4, fmt.Sprintf("10.0.0.%d", place+1), fmt.Sprintf("fd00::%d", place+1)).String()
}

// drawPod draws what a pod is. Where it is follows from its place, so that kernels need not be built for each world.
func drawPod(t *rapid.T, place int) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespaces()[place/2], Name: fmt.Sprintf("pod%d", place), UID: types.UID(fmt.Sprintf("pod%d", place)), Labels: drawLabels(t),
		},
		Spec: corev1.PodSpec{NodeName: nodes()[place%2], ServiceAccountName: pick(t, accounts(), "account")},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: podAddress(place, true)}, {IP: podAddress(place, false)}},
		},
	}
	switch {
	case chance(t, 6, "host network"):
		pod.Spec.HostNetwork = true
		pod.Status.PodIPs = []corev1.PodIP{{IP: interfaces()[2*(place%2)].Addresses[0].String()}}
	case chance(t, 6, "finished"):
		pod.Status.Phase = pick(t, []corev1.PodPhase{corev1.PodFailed, corev1.PodSucceeded}, "phase")
	case chance(t, 6, "pending"):
		pod.Status.Phase = corev1.PodPending
	}
	if chance(t, 25, "source prefixes") {
		pod.Annotations = map[string]string{"cni.projectcalico.org/allowedSourcePrefixes": pick(t, []string{
			`["192.0.2.0/24"]`, `["192.0.2.0/25", "2001:db8::/64"]`, `["192.0.2.130", "10.0.0.0/24"]`, `["192.0.2.0/24", "nonsense"]`, `192.0.2.0/24`, `[]`,
		}, "source prefixes")}
	}
	if chance(t, 10, "lies") {
		pod.Labels["projectcalico.org/serviceaccount"] = "robot"
	}
	const image = "registry.k8s.io/pause:3.10"
	pod.Spec.Containers = []corev1.Container{{Name: "main", Image: image}}
	for _, name := range portNames() {
		if chance(t, 60, "has port "+name) {
			pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: name, Image: image, Ports: []corev1.ContainerPort{{
				Name: name, ContainerPort: pick(t, []int32{80, 53, 8080}, "port"), Protocol: pick(t, []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP, ""}, "protocol"),
			}}})
		}
	}
	return pod
}

func drawSetNets(t *rapid.T) []string {
	out := some(t, nets(true), 2, "net")
	if chance(t, 80, "both families") {
		out = append(out, some(t, nets(false), 2, "net")...)
	}
	return distinct(out)
}

func distinct[T comparable](list []T) []T {
	var out []T
	seen := map[T]bool{}
	for _, x := range list {
		if !seen[x] {
			seen[x] = true
			out = append(out, x)
		}
	}
	return out
}

func drawTiers(t *rapid.T, w *oracle.World) {
	for _, name := range []string{"extra", "other"} {
		tier := &v3.Tier{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       v3.TierSpec{DefaultAction: pick(t, []v3.Action{v3.Pass, v3.Deny, ""}, "default action")},
		}
		if chance(t, 80, "tier has order") {
			tier.Spec.Order = new(pick(t, []float64{500, 1000, 2000, 1000000, 2000000, 20000000}, "order of tier"))
		}
		w.Tiers = append(w.Tiers, tier)
	}
}

func drawTier(t *rapid.T) string {
	return pick(t, []string{"", "extra", "other", "default", "kube-admin", "kube-baseline", "extra", "missing"}, "tier")
}

func drawOrder(t *rapid.T) *float64 {
	if chance(t, 30, "no order") {
		return nil
	}
	return new(pick(t, []float64{10, 10.5, 1000, 2000, -1.5}, "order"))
}

func drawFelix(t *rapid.T) *v3.FelixConfiguration {
	if chance(t, 25, "no settings") {
		return nil
	}
	f := &v3.FelixConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	f.Spec.DefaultEndpointToHostAction = pick(t, []string{"Accept", "Return", "Drop", "", "accept"}, "to host")
	if chance(t, 20, "VXLAN from pods") {
		f.Spec.AllowVXLANPacketsFromWorkloads = new(true)
	}
	if chance(t, 20, "IPIP from pods") {
		f.Spec.AllowIPIPPacketsFromWorkloads = new(true)
	}
	f.Spec.WorkloadSourceSpoofing = pick(t, []string{"", "Any", "any", "Disabled"}, "spoofing")
	if chance(t, 20, "VXLAN port") {
		f.Spec.VXLANPort = new(8080)
	}
	f.Spec.FailsafeInboundHostPorts = drawFailsafe(t, "inbound")
	f.Spec.FailsafeOutboundHostPorts = drawFailsafe(t, "outbound")
	return f
}

func drawPools(t *rapid.T) []*v3.IPPool {
	var out []*v3.IPPool
	for _, p := range [][2]string{{"four", "10.0.0.0/16"}, {"six", "fd00::/112"}} {
		if chance(t, 70, "pool") {
			out = append(out, &v3.IPPool{ObjectMeta: metav1.ObjectMeta{Name: p[0]}, Spec: v3.IPPoolSpec{CIDR: p[1], NATOutgoing: chance(t, 40, "masquerade")}})
		}
	}
	return out
}

// drawTranslations draws services: a cluster IP, and a node port of each node.
func drawTranslations(t *rapid.T, w *oracle.World) []oracle.Translation {
	var out []oracle.Translation
	if len(w.Pods) == 0 || !chance(t, 60, "services") {
		return nil
	}
	v4 := chance(t, 75, "IPv4 service")
	place := upTo(t, 5, "endpoint of the service")
	base := oracle.Translation{
		Protocol: pick(t, []int{oracle.TCP, oracle.UDP, oracle.SCTP}, "protocol of the service"), Port: 80,
		Endpoint: family(v4, podAddress(place, v4), podAddress(place, v4)), EndpointPort: pick(t, []int{80, 8080, 53}, "target port"),
	}
	clusterIP := base
	clusterIP.Address = family(v4, "10.96.0.10", "fd96::10")
	out = append(out, clusterIP)
	for _, l := range interfaces() {
		if l.Name == "eth0" {
			nodePort := base
			nodePort.Address, nodePort.Port, nodePort.Masquerade = l.Addresses[map[bool]int{true: 0, false: 1}[v4]], 30080, chance(t, 50, "masquerade")
			out = append(out, nodePort)
		}
	}
	return out
}
