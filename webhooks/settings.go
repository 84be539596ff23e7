package webhooks

import (
	"fmt"
	"reflect"
	"slices"
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

// inEffect are the settings of a FelixConfiguration that have an effect, by the names that they have in JSON.
func inEffect() []string {
	return []string{
		"defaultEndpointToHostAction", "vxlanPort", "vxlanVNI", "vxlanMTU", "vxlanMTUV6", "ipipMTU", "vxlanEnabled", "ipipEnabled", "mtuIfacePattern",
		"externalNodesList", "allowVXLANPacketsFromWorkloads", "allowIPIPPacketsFromWorkloads", "workloadSourceSpoofing", "floatingIPs",
		"serviceLoopPrevention", "nftablesMode", "failsafeInboundHostPorts", "failsafeOutboundHostPorts",
	}
}

// idleNamed is how many settings without effect a warning names.
const idleNamed = 6

// idleSettings warns of settings that nothing goes by. Features that are switched off are off indeed, and those in told have a warning of their own.
func idleSettings(spec *v3.FelixConfigurationSpec, told []string) []string {
	var idle []string
	v := reflect.ValueOf(spec).Elem()
	for _, f := range reflect.VisibleFields(v.Type()) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		value := v.FieldByIndex(f.Index)
		if f.Anonymous || value.IsZero() || slices.Contains(inEffect(), name) || slices.Contains(told, name) {
			continue
		}
		if is := reflect.Indirect(value); is.Kind() == reflect.Bool && !is.Bool() || is.Kind() == reflect.String && is.String() == "Disabled" {
			continue
		}
		idle = append(idle, "spec."+name)
	}
	if len(idle) == 0 {
		return nil
	}
	verb := "have"
	if len(idle) == 1 {
		verb = "has"
	}
	if more := len(idle) - idleNamed; more > 0 {
		idle = append(idle[:idleNamed], fmt.Sprintf("%d more", more))
	}
	return []string{fmt.Sprintf("%s %s no effect here", strings.Join(idle, ", "), verb)}
}

func felixWarnings(f *v3.FelixConfiguration) []string {
	var warnings []string
	if !strings.HasPrefix(f.Name, "node.") {
		warnings = notRead("FelixConfiguration", f.Name)
	}
	var told []string
	for _, x := range []struct {
		name string
		set  *bool
		lack string
	}{
		{"bpfEnabled", f.Spec.BPFEnabled, "there is no BPF dataplane: policies are enforced by nftables or iptables"},
		{"wireguardEnabled", f.Spec.WireguardEnabled, "traffic between nodes is not encrypted"},
		{"wireguardEnabledV6", f.Spec.WireguardEnabledV6, "traffic between nodes is not encrypted"},
	} {
		told = append(told, x.name)
		if x.set != nil && *x.set {
			warnings = append(warnings, fmt.Sprintf("spec.%s has no effect: %s", x.name, x.lack))
		}
	}
	warnings = append(warnings, idleSettings(&f.Spec, told)...)
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
