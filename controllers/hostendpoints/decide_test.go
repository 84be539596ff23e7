package hostendpoints

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
)

func node(name string, labels map[string]string, addresses ...string) host {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	for _, a := range addresses {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a})
	}
	n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeHostName, Address: name})
	return host{Node: n}
}

// configuration reads spec.controllers.node.hostEndpoint.
func configuration(t *testing.T, text string) *v3.KubeControllersConfiguration {
	t.Helper()
	var auto v3.AutoHostEndpointConfig
	if err := yaml.UnmarshalStrict([]byte(text), &auto); err != nil {
		t.Fatal(err)
	}
	c := &v3.KubeControllersConfiguration{}
	c.Spec.Controllers.Node = &v3.NodeControllerConfig{HostEndpoint: &auto}
	return c
}

// text writes host endpoints, a line each: "name node interface addresses {labels} profiles".
func text(hosts map[string]*v3.HostEndpoint) string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(hosts)) {
		h := hosts[name]
		labels := maps.Clone(h.Labels)
		if labels[labelCreatedBy] != createdBy {
			return name + " does not bear the mark"
		}
		delete(labels, labelCreatedBy)
		line := fmt.Sprintf("%s %s %q %v %v %v", name, h.Spec.Node, h.Spec.InterfaceName, h.Spec.ExpectedIPs, labels, h.Spec.Profiles)
		if len(h.Annotations) > 0 {
			line += fmt.Sprint(" ", h.Annotations)
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func TestWhichHostEndpointsNodesGet(t *testing.T) {
	annotated := node("c", nil, "10.0.0.3")
	annotated.Annotations = map[string]string{annotationIPv4Address: "192.0.2.3/24"}
	tunnelled := node("d", nil, "10.0.0.4")
	tunnelled.ends = []v1alpha1.TunnelEnd{{Kind: v1alpha1.TunnelIPIP, Address: "10.48.0.9"}, {Kind: v1alpha1.TunnelVXLAN}, {Kind: v1alpha1.TunnelVXLANv6, Address: "fd00::9"}}
	nodes := []host{
		node("b", map[string]string{"role": "worker", labelCreatedBy: "a user"}, "10.0.0.2", "fd00::2", "10.0.0.2", "nonsense"),
		node("a", map[string]string{"role": "control"}, "10.0.0.1", "172.16.0.1"), annotated, tunnelled,
	}
	const (
		profile = " [projectcalico-default-allow]"
		all     = `a-auto-hep a "*" [10.0.0.1 172.16.0.1] map[role:control]` + profile + "\n" +
			`b-auto-hep b "*" [10.0.0.2 fd00::2] map[role:worker]` + profile + "\n" +
			`c-auto-hep c "*" [192.0.2.3 10.0.0.3] map[]` + profile + "\n" +
			`d-auto-hep d "*" [10.0.0.4 10.48.0.9 fd00::9] map[]` + profile
		template = "autoCreate: Enabled\ncreateDefaultHostEndpoint: Disabled\ntemplates:\n"
	)
	for name, tc := range map[string]struct{ config, want, warning string }{
		"none, unless asked for":                       {"{}", "", ""},
		"none, when switched off":                      {"autoCreate: Disabled", "", ""},
		"one for all interfaces":                       {"autoCreate: Enabled", all, ""},
		"the same, when said so":                       {"{autoCreate: Enabled, createDefaultHostEndpoint: Enabled}", all, ""},
		"not that one, when switched off":              {"{autoCreate: Enabled, createDefaultHostEndpoint: Disabled}", "", ""},
		"templates do nothing while they are not made": {"{autoCreate: Disabled, templates: [{generateName: t, interfaceCIDRs: [10.0.0.0/8]}]}", "", ""},
		"a template makes one where the node has addresses in its CIDRs": {
			template + "- {generateName: front, interfaceCIDRs: [172.16.0.0/16, 'fd00::/64'], labels: {role: front, side: out}, annotations: {note: x}}",
			`a-front-auto-hep a "" [172.16.0.1] map[role:front side:out]` + profile + " map[note:x]\n" +
				`b-front-auto-hep b "" [fd00::2] map[role:front side:out]` + profile + " map[note:x]\n" +
				`d-front-auto-hep d "" [fd00::9] map[role:front side:out]` + profile + " map[note:x]", "",
		},
		"a template is for some nodes": {
			template + "- {generateName: t, interfaceCIDRs: [0.0.0.0/0], nodeSelector: role == 'control'}",
			`a-t-auto-hep a "" [10.0.0.1 172.16.0.1] map[role:control]` + profile, "",
		},
		"the label that marks them can't be changed": {
			template + "- {generateName: t, interfaceCIDRs: [172.16.0.0/16], labels: {projectcalico.org/created-by: me}}",
			`a-t-auto-hep a "" [172.16.0.1] map[role:control]` + profile, "",
		},
		"names of interfaces are not known": {
			template + "- {generateName: t, interfacePattern: eth.*, interfaceCIDRs: [10.0.0.0/8]}", "", "hostEndpoint.templates[0].interfacePattern",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, unsupported, errs := read(configuration(t, tc.config))
			if len(errs) > 0 {
				t.Fatal(errs)
			}
			if diff := cmp.Diff(tc.want, text(desired(s, nodes))); diff != "" {
				t.Errorf("host endpoints (-want +got):\n%s", diff)
			}
			if got := warning(unsupported, nil, nil); (tc.warning == "") != (got == "") || !strings.Contains(got, tc.warning) {
				t.Errorf("got warning %q, want one about %q", got, tc.warning)
			}
		})
	}
	if s, _, errs := read(nil); s.enabled || len(errs) > 0 {
		t.Errorf("without a configuration: %+v, %v", s, errs)
	}
}

func TestAMistakeChangesNothing(t *testing.T) {
	for config, field := range map[string]string{
		"{autoCreate: Enabled, templates: [{generateName: t}]}":                                                  "interfaceCIDRs",
		"{autoCreate: Enabled, templates: [{generateName: t, interfaceCIDRs: [x]}]}":                             "interfaceCIDRs[0]",
		"{autoCreate: Enabled, templates: [{generateName: t, interfaceCIDRs: [10.0.0.0/8], nodeSelector: '('}]}": "nodeSelector",
		"{autoCreate: Enabled, createDefaultHostEndpoint: Maybe}":                                                "createDefaultHostEndpoint",
	} {
		_, _, errs := read(configuration(t, config))
		if got := warning(nil, errs, nil); !strings.Contains(got, field) || !strings.Contains(got, "stay as they are") {
			t.Errorf("%s: got %q, want a warning about %s", config, got, field)
		}
	}
}

func TestNamesAreBoundedAndDistinct(t *testing.T) {
	long := strings.Repeat("x", 253)
	nodes := []host{node(long, nil, "10.0.0.1"), node(long[:252]+"y", nil, "10.0.0.2")}
	for name := range desired(settings{enabled: true, everywhere: true}, nodes) {
		if len(name) > 253 || !strings.HasSuffix(name, suffix) {
			t.Errorf("name %s has %d characters", name, len(name))
		}
	}
	if got := desired(settings{enabled: true, everywhere: true}, nodes); len(got) != 2 {
		t.Errorf("two nodes get %d host endpoints", len(got))
	}

	// Node a with template b, and node a-b.
	s, _, _ := read(configuration(t, "{autoCreate: Enabled, templates: [{generateName: b, interfaceCIDRs: [10.0.0.0/8]}]}"))
	for _, nodes := range [][]host{{node("a", nil, "10.0.0.1"), node("a-b", nil, "10.0.0.2")}, {node("a-b", nil, "10.0.0.2"), node("a", nil, "10.0.0.1")}} {
		if h := desired(s, nodes)["a-b-auto-hep"]; h.Spec.Node != "a-b" {
			t.Errorf("a-b-auto-hep is of node %s", h.Spec.Node)
		}
	}
}

func TestPlan(t *testing.T) {
	want := desired(settings{enabled: true, everywhere: true}, []host{node("n", map[string]string{"a": "b"}, "10.0.0.1")})
	as := func(change func(*v3.HostEndpoint)) *v3.HostEndpoint {
		h := want["n-auto-hep"].DeepCopy()
		change(h)
		return h
	}
	for name, tc := range map[string]struct {
		want  map[string]*v3.HostEndpoint
		there *v3.HostEndpoint
		does  string
	}{
		"what is missing is created": {want, nil, "create"},
		"what is right stays":        {want, as(func(*v3.HostEndpoint) {}), ""},
		"another label":              {want, as(func(h *v3.HostEndpoint) { h.Labels["x"] = "y" }), "update"},
		"another address":            {want, as(func(h *v3.HostEndpoint) { h.Spec.ExpectedIPs = nil }), "update"},
		"another node":               {want, as(func(h *v3.HostEndpoint) { h.Spec.Node = "m" }), "update"},
		"another profile":            {want, as(func(h *v3.HostEndpoint) { h.Spec.Profiles = nil }), "update"},
		"ports and notes are users'": {want, as(func(h *v3.HostEndpoint) {
			h.Spec.Ports = []v3.EndpointPort{{}}
			h.Annotations = map[string]string{"x": "y"}
		}), ""},
		"what is too much goes":        {nil, as(func(*v3.HostEndpoint) {}), "remove"},
		"somebody else's goes not":     {nil, as(func(h *v3.HostEndpoint) { h.Labels = nil }), ""},
		"somebody else's stays as is":  {want, as(func(h *v3.HostEndpoint) { h.Labels = nil }), "taken"},
		"nothing there, nothing to do": {nil, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var there []*v3.HostEndpoint
			if tc.there != nil {
				there = append(there, tc.there)
			}
			c := plan(tc.want, there)
			var does []string
			for what, n := range map[string]int{"create": len(c.create), "update": len(c.update), "remove": len(c.remove), "taken": len(c.taken)} {
				if n > 0 {
					does = append(does, what)
				}
			}
			if got := strings.Join(does, " "); got != tc.does {
				t.Fatalf("got %q, want %q", got, tc.does)
			}
			for _, u := range c.update {
				if again := plan(tc.want, []*v3.HostEndpoint{u.to}); len(again.update) > 0 {
					t.Errorf("the update does not mend it: %+v", u.to)
				}
			}
		})
	}
}
