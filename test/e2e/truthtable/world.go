package truthtable

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/manul-net/manul/test/oracle"
)

// World is the cluster as it was written, for the reference evaluator.
type World struct {
	oracle.World

	addresses map[Pod]netip.Addr
}

// NewWorld has the namespaces, accounts and pods of the manifest, with the addresses that the pods have got.
func NewWorld(addresses map[Pod]netip.Addr) (*World, error) {
	w := &World{addresses: addresses}
	w.Interfaces = interfaces()
	if err := w.Apply(Manifest()); err != nil {
		return nil, err
	}
	for _, pod := range w.Pods {
		address, ok := addresses[Pod{pod.Namespace, pod.Name}]
		if !ok {
			return nil, fmt.Errorf("pod %s/%s has no address", pod.Namespace, pod.Name)
		}
		pod.Status.PodIPs = []corev1.PodIP{{IP: address.String()}}
	}
	return w, nil
}

// Expected is the table that should be seen. What a pod sends to itself never leaves it.
func (w *World) Expected() Table {
	numbers := map[string]int{"TCP": oracle.TCP, "UDP": oracle.UDP, "SCTP": oracle.SCTP}
	const anyPort = 40000
	t := Table{}
	users := w.Users()
	for _, p := range Probes() {
		t[p] = p.From == p.To || users.Verdict(oracle.Flow{
			From: oracle.Place{Pod: p.From.String()},
			Packet: oracle.Packet{
				Source: w.addresses[p.From], Destination: w.addresses[p.To],
				Protocol: numbers[p.Protocol], SourcePort: anyPort, DestinationPort: p.Port,
			},
		}).Arrived
	}
	return t
}

// interfaces are those of the nodes on which the pods run: one each, on one network.
func interfaces() []oracle.Interface {
	var all []oracle.Interface
	for node, address := range map[string]string{"master1": "10.0.0.10", "worker1": "10.0.0.11", "worker2": "10.0.0.12"} {
		all = append(all, oracle.Interface{
			Node: node, Name: "ens160", Addresses: []netip.Addr{netip.MustParseAddr(address)}, Reaches: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")},
		})
	}
	return all
}

// Apply adds the objects of a manifest, or replaces those of the same name.
func (w *World) Apply(manifest string) error { return w.each(manifest, true) }

// Delete removes the objects of a manifest.
func (w *World) Delete(manifest string) error { return w.each(manifest, false) }

func (w *World) each(manifest string, add bool) error {
	docs := yaml.NewYAMLReader(bufio.NewReader(strings.NewReader(manifest)))
	for {
		doc, err := docs.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading a manifest: %w", err)
		}
		if len(bytes.TrimSpace(doc)) == 0 {
			continue
		}
		if err := w.one(doc, add); err != nil {
			return fmt.Errorf("%w\n%s", err, doc)
		}
	}
}

func (w *World) one(doc []byte, add bool) error {
	var kind metav1.TypeMeta
	if err := sigsyaml.Unmarshal(doc, &kind); err != nil {
		return fmt.Errorf("reading a manifest: %w", err)
	}
	switch kind.APIVersion + " " + kind.Kind {
	case "v1 Service": // whose endpoints are, the evaluator is not told
		return nil
	case "v1 Namespace":
		return put(&w.Namespaces, doc, add)
	case "v1 ServiceAccount":
		return put(&w.ServiceAccounts, doc, add)
	case "v1 Pod":
		return put(&w.Pods, doc, add)
	case "networking.k8s.io/v1 NetworkPolicy":
		return put(&w.KubernetesPolicies, doc, add)
	case "projectcalico.org/v3 NetworkPolicy":
		return put(&w.NetworkPolicies, doc, add)
	case "projectcalico.org/v3 GlobalNetworkPolicy":
		return put(&w.GlobalPolicies, doc, add)
	case "projectcalico.org/v3 Tier":
		return put(&w.Tiers, doc, add)
	case "projectcalico.org/v3 NetworkSet":
		return put(&w.NetworkSets, doc, add)
	case "projectcalico.org/v3 GlobalNetworkSet":
		return put(&w.GlobalNetworkSets, doc, add)
	case "projectcalico.org/v3 StagedGlobalNetworkPolicy":
		return put(&w.StagedGlobalPolicies, doc, add)
	case "policy.networking.k8s.io/v1alpha2 ClusterNetworkPolicy":
		return put(&w.ClusterPolicies, doc, add)
	}
	return fmt.Errorf("a manifest of the kind %s %s", kind.APIVersion, kind.Kind)
}

// put adds an object to the list of its kind, or removes it.
func put[T any, P interface {
	*T
	metav1.Object
}](list *[]P, doc []byte, add bool,
) error {
	obj := P(new(T))
	if err := sigsyaml.UnmarshalStrict(doc, obj); err != nil {
		return fmt.Errorf("reading a manifest: %w", err)
	}
	*list = slices.DeleteFunc(*list, func(o P) bool { return o.GetNamespace() == obj.GetNamespace() && o.GetName() == obj.GetName() })
	if add {
		*list = append(*list, obj)
	}
	return nil
}

// Label sets a label of a pod, a namespace ("ns") or an account, or removes it if the value is empty.
func (w *World) Label(kind, namespace, name, key, value string) error {
	var labels *map[string]string
	switch kind {
	case "pod":
		for _, o := range w.Pods {
			if o.Namespace == namespace && o.Name == name {
				labels = &o.Labels
			}
		}
	case "namespace":
		for _, o := range w.Namespaces {
			if o.Name == name {
				labels = &o.Labels
			}
		}
	case "serviceaccount":
		for _, o := range w.ServiceAccounts {
			if o.Namespace == namespace && o.Name == name {
				labels = &o.Labels
			}
		}
	}
	switch {
	case labels == nil:
		return fmt.Errorf("labelling %s %s/%s: there is none", kind, namespace, name)
	case value == "":
		delete(*labels, key)
	default:
		(*labels)[key] = value
	}
	return nil
}

// Moved gives a pod another address.
func (w *World) Moved(p Pod, address netip.Addr) error {
	if !address.IsValid() {
		return fmt.Errorf("pod %s has no address", p)
	}
	w.addresses[p] = address
	for _, pod := range w.Pods {
		if pod.Namespace == p.Namespace && pod.Name == p.Name {
			pod.Status.PodIPs = []corev1.PodIP{{IP: address.String()}}
		}
	}
	return nil
}
