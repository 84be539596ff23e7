package webhooks

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	v3 "github.com/manul-net/manul/api/v3"
)

// theOnly is the name of the one object that counts of kinds that hold settings of the cluster.
const theOnly = "default"

// notRead warns of settings under a name that nobody looks for.
func notRead(kind, name string) []string {
	if name == theOnly {
		return nil
	}
	return []string{fmt.Sprintf("metadata.name: nothing reads the %s %q: write these settings into the one called %q", kind, name, theOnly)}
}

func ipamWarnings(c *v3.IPAMConfiguration) []string { return notRead("IPAMConfiguration", c.Name) }

// anyHandle: nothing can be wrong with what has no effect.
func anyHandle(*v3.IPAMHandle) field.ErrorList { return nil }

func handleWarnings(*v3.IPAMHandle) []string {
	return []string{"nothing reads IPAMHandles, and none are made: kubectl manul ipam show --ip finds who has an address"}
}

func felixWarnings(f *v3.FelixConfiguration) []string {
	var warnings []string
	if !strings.HasPrefix(f.Name, "node.") {
		warnings = notRead("FelixConfiguration", f.Name)
	}
	for _, x := range []struct {
		name string
		set  *bool
		lack string
	}{
		{"bpfEnabled", f.Spec.BPFEnabled, "there is no BPF dataplane: policies are enforced by nftables or iptables"},
		{"wireguardEnabled", f.Spec.WireguardEnabled, "traffic between nodes is not encrypted"},
		{"wireguardEnabledV6", f.Spec.WireguardEnabledV6, "traffic between nodes is not encrypted"},
	} {
		if x.set != nil && *x.set {
			warnings = append(warnings, fmt.Sprintf("spec.%s has no effect: %s", x.name, x.lack))
		}
	}
	warnings = append(warnings, failsafeWarnings("spec.failsafeInboundHostPorts", f.Spec.FailsafeInboundHostPorts)...)
	return append(warnings, failsafeWarnings("spec.failsafeOutboundHostPorts", f.Spec.FailsafeOutboundHostPorts)...)
}

// failsafeWarnings: what is left open when a policy on host endpoints goes wrong.
func failsafeWarnings(path string, ports []v3.ProtoPort) []string {
	if ports != nil && len(ports) == 0 {
		return []string{path + ": with an empty list a policy on a host endpoint can cut off its node from you and from the cluster: leave the field out to get the usual ports"}
	}
	for i := range ports {
		if ports[i].Protocol == "" {
			return []string{fmt.Sprintf("%s[%d]: without a protocol the port is one of TCP: write protocol: TCP, or UDP or SCTP if that is meant", path, i)}
		}
	}
	return nil
}

func controllersWarnings(k *v3.KubeControllersConfiguration) []string {
	warnings := notRead("KubeControllersConfiguration", k.Name)
	if node := k.Spec.Controllers.Node; node != nil && node.HostEndpoint != nil {
		auto := node.HostEndpoint
		if auto.AutoCreate == "Enabled" && auto.CreateDefaultHostEndpoint == "Disabled" && len(auto.Templates) == 0 {
			warnings = append(warnings, "spec.controllers.node.hostEndpoint: with createDefaultHostEndpoint Disabled and no templates no host endpoint is made: give templates, or leave createDefaultHostEndpoint out")
		}
	}
	return warnings
}
