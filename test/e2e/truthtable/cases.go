package truthtable

import (
	"fmt"
	"strings"
)

// Case is a policy, or several, and what becomes of them.
type Case struct {
	// Name says what the case is about, in a sentence.
	Name  string
	Steps []Step
}

// Step is one change. After each the whole table is compared.
type Step struct {
	// Apply and Delete are manifests. {{ip "tx" "a"}} in them is the address of a pod.
	Apply, Delete string
	// Label is a label that is set or removed.
	Label *Label
	// Renew is a pod that is deleted and made again.
	Renew Pod
	// Expect tells what should be seen where the reference evaluator does not know. It is not asked of a pod's traffic to itself.
	Expect func(Probe) bool
}

// Label of a pod, namespace or serviceaccount.
type Label struct {
	Kind, Namespace, Name, Key, Value string
}

// Cases are all of them.
func Cases() []Case {
	var all []Case
	for _, list := range [][]Case{kubernetesCases(), kubernetesPeerCases(), calicoCases(), tierCases(), changeCases(), clusterCases()} {
		all = append(all, list...)
	}
	return all
}

// one is a case of one manifest.
func one(name string, docs ...string) Case {
	return Case{Name: name, Steps: []Step{{Apply: join(docs...)}}}
}

func join(docs ...string) string {
	var all strings.Builder
	all.WriteString(docs[0])
	for _, doc := range docs[1:] {
		all.WriteString("\n---\n" + doc)
	}
	return all.String()
}

// knp is a NetworkPolicy of networking.k8s.io; spec in YAML's flow style.
func knp(namespace, name, spec string) string {
	return fmt.Sprintf("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: %s, name: %s}\nspec: %s", namespace, name, spec)
}

// np is a NetworkPolicy of projectcalico.org.
func np(namespace, name, spec string) string {
	return fmt.Sprintf("apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {namespace: %s, name: %s}\nspec: %s", namespace, name, spec)
}

// ours restricts global policies to the pods of the table.
const ours = `has(ns)`

// global is an object of projectcalico.org without a namespace.
func global(kind, name, spec string) string {
	return fmt.Sprintf("apiVersion: projectcalico.org/v3\nkind: %s\nmetadata: {name: %s, labels: {set: %[2]s}}\nspec: %[3]s", kind, name, spec)
}

func gnp(name, spec string) string { return global("GlobalNetworkPolicy", name, spec) }

// cnp is a ClusterNetworkPolicy of policy.networking.k8s.io.
func cnp(name, spec string) string {
	return fmt.Sprintf("apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: %s}\nspec: %s", name, spec)
}
