// Package truthtable tries every policy of a list on a real cluster: nine pods in three namespaces on three nodes, all of
// them to all of them, by TCP, UDP and SCTP on two ports. What should come out the reference evaluator of test/oracle says.
package truthtable

import (
	"fmt"
	"strings"
)

// Image of the pods.
const Image = "ghcr.io/manul-net/prober:v0.1.0"

// The pods' ports; Control takes questions.
const (
	First   = 80
	Second  = 81
	Control = 7000
)

func namespaces() []string { return []string{"tx", "ty", "tz"} }

// hosts is where the pods of a name run, in every namespace: so each pod has peers on its own node and on others.
func hosts() map[string]string {
	return map[string]string{"a": "master1", "b": "worker1", "c": "worker2"}
}

func protocols() []string { return []string{"TCP", "UDP", "SCTP"} }

// Pod of the table.
type Pod struct{ Namespace, Name string }

func (p Pod) String() string { return p.Namespace + "/" + p.Name }

// Pods are the nine, in order.
func Pods() []Pod {
	var all []Pod
	for _, ns := range namespaces() {
		for _, name := range []string{"a", "b", "c"} {
			all = append(all, Pod{ns, name})
		}
	}
	return all
}

// Manifest has the pods with their namespaces and accounts. Namespaces bear the label ns, pods the label pod, accounts the label team.
func Manifest() string {
	var b strings.Builder
	for _, ns := range namespaces() {
		fmt.Fprintf(&b, "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: %[1]s, labels: {ns: %[1]s, kubernetes.io/metadata.name: %[1]s}}\n", ns)
		for _, account := range []string{"red", "blue"} {
			fmt.Fprintf(&b, "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: %[2]s, namespace: %[1]s, labels: {team: %[2]s}}\n", ns, account)
		}
	}
	for _, p := range Pods() {
		account := map[string]string{"a": "red", "b": "blue", "c": "blue"}[p.Name]
		fmt.Fprintf(&b, `---
apiVersion: v1
kind: Pod
metadata: {name: %[2]s, namespace: %[1]s, labels: {pod: %[2]s}}
spec:
  nodeName: %[3]s
  serviceAccountName: %[4]s
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 1
  containers:
  - name: prober
    image: %[5]s
    args: [serve, -udp, "%[6]d,%[7]d", -sctp, "%[6]d,%[7]d", -control, ":%[8]d", ":%[6]d", ":%[7]d"]
    readinessProbe: {tcpSocket: {port: %[8]d}, periodSeconds: 1}
    ports:
`, p.Namespace, p.Name, hosts()[p.Name], account, Image, First, Second, Control)
		for _, protocol := range protocols() {
			for _, port := range []int{First, Second} {
				fmt.Fprintf(&b, "    - {name: %s-%d, containerPort: %[2]d, protocol: %s}\n", strings.ToLower(protocol), port, protocol)
			}
		}
	}
	return b.String()
}
