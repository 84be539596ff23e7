package hostendpoints

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/manul-net/manul/api/v1alpha1"
	v3 "github.com/manul-net/manul/api/v3"
	"github.com/manul-net/manul/internal/selector"
	"github.com/manul-net/manul/internal/validate"
)

const (
	// suffix of the names of automatic host endpoints.
	suffix = "-auto-hep"
	// labelCreatedBy and createdBy mark them, as users of Calico know it.
	labelCreatedBy = "projectcalico.org/created-by"
	createdBy      = "calico-kube-controllers"
	// profileAllow lets pass what no policy decides, so that making host endpoints cuts nobody off.
	profileAllow = "projectcalico-default-allow"
	// annotationIPv4Address on a node is the node's own IPv4 address, possibly with a prefix length.
	annotationIPv4Address = "projectcalico.org/IPv4Address"
	enabled, disabled     = "Enabled", "Disabled"
	maxName               = 253
)

// template is a v3.HostEndpointTemplate that can be read.
type template struct {
	*v3.HostEndpointTemplate
	nodes *selector.Selector
	cidrs []netip.Prefix
}

// settings are what a KubeControllersConfiguration says of host endpoints.
type settings struct {
	enabled, everywhere bool
	templates           []template
}

// read reads the configuration; nil: there is none. When it returns errors, nothing is to be changed. unsupported are the parts
// that have no effect.
func read(config *v3.KubeControllersConfiguration) (s settings, unsupported, errs field.ErrorList) {
	if config == nil || config.Spec.Controllers.Node == nil || config.Spec.Controllers.Node.HostEndpoint == nil {
		return settings{}, nil, nil
	}
	auto, path := config.Spec.Controllers.Node.HostEndpoint, field.NewPath("spec", "controllers", "node", "hostEndpoint")
	if auto.AutoCreate != enabled {
		return settings{}, nil, nil
	}
	if errs := validate.AutoHostEndpoints(path, auto); len(errs) > 0 {
		return settings{}, nil, errs
	}
	s = settings{enabled: true, everywhere: auto.CreateDefaultHostEndpoint != disabled}
	for i := range auto.Templates {
		t := template{HostEndpointTemplate: &auto.Templates[i]}
		if t.InterfacePattern != "" {
			unsupported = append(unsupported, field.Forbidden(path.Child("templates").Index(i).Child("interfacePattern"),
				"the names of nodes' interfaces are not known: the template makes no host endpoints; give interfaceCIDRs alone"))
			continue
		}
		nodes, err := selector.Parse(t.NodeSelector)
		if err != nil {
			return settings{}, nil, field.ErrorList{field.Invalid(path.Child("templates").Index(i).Child("nodeSelector"), t.NodeSelector, err.Error())}
		}
		t.nodes = nodes
		for _, text := range t.InterfaceCIDRs {
			if cidr, err := validate.ParseNet(text); err == nil {
				t.cidrs = append(t.cidrs, cidr)
			}
		}
		s.templates = append(s.templates, t)
	}
	return s, unsupported, nil
}

// host is a node with its ends of tunnels, as its agent says.
type host struct {
	*corev1.Node
	ends []v1alpha1.TunnelEnd
}

// desired are the host endpoints that there should be, by name. Should two get one name ("a-b" of node a by template b, and of
// node a-b), the one for all interfaces has it, or else the one of the node whose name comes first.
func desired(s settings, nodes []host) map[string]*v3.HostEndpoint {
	out := map[string]*v3.HostEndpoint{}
	if !s.enabled {
		return out
	}
	nodes = slices.SortedFunc(slices.Values(nodes), func(a, b host) int { return strings.Compare(a.Name, b.Name) })
	if s.everywhere {
		for _, n := range nodes {
			h := hostEndpoint(n, n.Name+suffix, n.addresses())
			h.Spec.InterfaceName = validate.AllInterfaces
			out[h.Name] = h
		}
	}
	for _, n := range nodes {
		for i := range s.templates {
			if h := s.templates[i].hostEndpoint(n); h != nil && out[h.Name] == nil {
				out[h.Name] = h
			}
		}
	}
	return out
}

// hostEndpoint that a template makes for a node; nil: none.
func (t *template) hostEndpoint(n host) *v3.HostEndpoint {
	inside := slices.DeleteFunc(n.addresses(), func(a netip.Addr) bool {
		return !slices.ContainsFunc(t.cidrs, func(p netip.Prefix) bool { return p.Contains(a) })
	})
	// Without an address there would be no interface.
	if len(inside) == 0 || !t.nodes.Match(selector.Map(n.Labels)) {
		return nil
	}
	h := hostEndpoint(n, n.Name+"-"+t.GenerateName+suffix, inside)
	maps.Copy(h.Labels, t.Labels)
	h.Labels[labelCreatedBy] = createdBy
	h.Annotations = maps.Clone(t.Annotations)
	return h
}

func hostEndpoint(n host, name string, addrs []netip.Addr) *v3.HostEndpoint {
	h := &v3.HostEndpoint{
		ObjectMeta: metav1.ObjectMeta{Name: bounded(name), Labels: map[string]string{}},
		Spec:       v3.HostEndpointSpec{Node: n.Name, Profiles: []string{profileAllow}},
	}
	maps.Copy(h.Labels, n.Labels)
	h.Labels[labelCreatedBy] = createdBy
	for _, a := range addrs {
		h.Spec.ExpectedIPs = append(h.Spec.ExpectedIPs, a.String())
	}
	return h
}

// bounded shortens a name that is too long for an object, so that it still tells apart what it told apart.
func bounded(name string) string {
	if len(name) <= maxName {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	end := "-" + hex.EncodeToString(sum[:8]) + suffix
	return strings.TrimRight(name[:maxName-len(end)], ".-") + end
}

// addresses are those of the node, and behind them those of its ends of tunnels, which what it sends into a tunnel bears.
func (n host) addresses() []netip.Addr {
	out := addresses(n.Node)
	for _, end := range n.ends {
		if addr, err := netip.ParseAddr(end.Address); err == nil && !slices.Contains(out, addr) {
			out = append(out, addr)
		}
	}
	return out
}

// addresses are the node's own, those of its annotation first, each once.
func addresses(n *corev1.Node) []netip.Addr {
	var out []netip.Addr
	add := func(text string) {
		if addr, err := netip.ParseAddr(text); err == nil && !slices.Contains(out, addr.Unmap()) {
			out = append(out, addr.Unmap())
		}
	}
	text, _, _ := strings.Cut(n.Annotations[annotationIPv4Address], "/")
	add(text)
	for _, a := range n.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			add(a.Address)
		}
	}
	return out
}

// changes are what has to be written.
type changes struct {
	create, remove []*v3.HostEndpoint
	update         []update
	// taken are names that somebody else's host endpoints bear. These stay as they are.
	taken []string
}

// update is a host endpoint as it is and as it should be.
type update struct{ from, to *v3.HostEndpoint }

// plan compares what is there with what should be. Only host endpoints that bear the mark are changed or removed.
func plan(want map[string]*v3.HostEndpoint, there []*v3.HostEndpoint) changes {
	var c changes
	known := map[string]bool{}
	for _, h := range there {
		known[h.Name] = true
		w, wanted := want[h.Name]
		switch isOurs := h.Labels[labelCreatedBy] == createdBy; {
		case !isOurs && wanted:
			c.taken = append(c.taken, h.Name)
		case !isOurs:
		case !wanted:
			c.remove = append(c.remove, h)
		case !isAsDesired(h, w):
			to := h.DeepCopy()
			to.Labels = w.Labels
			if to.Annotations == nil {
				to.Annotations = map[string]string{}
			}
			maps.Copy(to.Annotations, w.Annotations)
			to.Spec.Node, to.Spec.InterfaceName = w.Spec.Node, w.Spec.InterfaceName
			to.Spec.ExpectedIPs, to.Spec.Profiles = w.Spec.ExpectedIPs, w.Spec.Profiles
			c.update = append(c.update, update{from: h, to: to})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if !known[name] {
			c.create = append(c.create, want[name])
		}
	}
	return c
}

// isAsDesired compares what is decided here. Named ports, and annotations that no template asks for, are the users'.
func isAsDesired(h, want *v3.HostEndpoint) bool {
	for key, value := range want.Annotations {
		if h.Annotations[key] != value {
			return false
		}
	}
	return maps.Equal(h.Labels, want.Labels) && h.Spec.Node == want.Spec.Node && h.Spec.InterfaceName == want.Spec.InterfaceName &&
		slices.Equal(h.Spec.ExpectedIPs, want.Spec.ExpectedIPs) && slices.Equal(h.Spec.Profiles, want.Spec.Profiles)
}

// warning is what the user of a configuration has to know of it; empty: nothing.
func warning(unsupported, errs field.ErrorList, taken []string) string {
	var parts []string
	for _, err := range errs {
		parts = append(parts, err.Error())
	}
	if len(parts) > 0 {
		parts = append(parts, "until this is mended, automatic host endpoints stay as they are")
	}
	for _, err := range unsupported {
		parts = append(parts, err.Error())
	}
	slices.Sort(taken)
	for _, name := range taken {
		parts = append(parts, fmt.Sprintf("HostEndpoint %s is somebody else's and stays as it is: rename it, or give it the label %s: %s", name, labelCreatedBy, createdBy))
	}
	const most = 5
	if len(parts) > most {
		parts = append(parts[:most], fmt.Sprintf("and %d more", len(parts)-most))
	}
	return strings.Join(parts, "; ")
}
