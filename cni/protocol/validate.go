package protocol

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Bounds of what a request may hold, bytes.
const (
	maxContainerID = 200 // with a suffix it names a file
	maxIfName      = 15  // IFNAMSIZ less its terminating zero
	maxNetns       = 4096
	maxNamespace   = 63  // RFC 1123 label
	maxPodName     = 253 // RFC 1123 subdomain
	maxPodUID      = 128
)

// Bounds of an interface's MTU, bytes: RFC 791 and RFC 8200 (with IPv6) below, the IP length field above.
const (
	minMTU     = 68
	minMTUIPv6 = 1280
	maxMTU     = 65535
)

// Validate reports the first member that is unusable, by name.
func (r *Request) Validate() error {
	if r.Version != Version {
		return Errorf(CodeInvalidRequest, "version: got %d, want %d: the plugin and the node agent are of different releases", r.Version, Version)
	}
	var ops []interface{ Validate() error }
	if r.Add != nil {
		ops = append(ops, r.Add)
	}
	if r.Del != nil {
		ops = append(ops, r.Del)
	}
	if r.Check != nil {
		ops = append(ops, r.Check)
	}
	if r.Status != nil {
		ops = append(ops, r.Status)
	}
	if r.GC != nil {
		ops = append(ops, r.GC)
	}
	if r.Node != nil {
		ops = append(ops, r.Node)
	}
	if len(ops) != 1 {
		return Errorf(CodeInvalidRequest, "request: got %d operations, want exactly one of add, del, check, status, gc, node", len(ops))
	}
	return ops[0].Validate()
}

// Validate reports the first member that is unusable, by name.
func (a *Attachment) Validate() error {
	if err := name("containerID", a.ContainerID, maxContainerID); err != nil {
		return err
	}
	return ifName("ifName", a.IfName)
}

// Validate reports the first member that is unusable, by name.
func (r *AddRequest) Validate() error {
	if r.MTU != 0 && (r.MTU < minMTU || r.MTU > maxMTU) {
		return Errorf(CodeInvalidRequest, "mtu: got %d, want 0 (automatic) or %d to %d", r.MTU, minMTU, maxMTU)
	}
	if len(r.Given) > MaxAddresses {
		return Errorf(CodeInvalidRequest, "given: got %d addresses, want at most %d", len(r.Given), MaxAddresses)
	}
	if err := usable("given", CodeInvalidRequest, r.Given); err != nil {
		return err
	}
	if r.Chained && len(r.Given) == 0 {
		return Errorf(CodeInvalidRequest, "given: no address, and chained is set: another plugin gives the addresses")
	}
	if r.Pools != nil {
		if err := r.Pools.Validate(); err != nil {
			return err
		}
	}
	return podAttachment(&r.Attachment, r.Netns, r.PodNamespace, r.PodName, r.PodUID)
}

// Validate reports the first member that is unusable, by name.
func (p *Pools) Validate() error {
	for _, f := range []struct {
		field string
		pools []string
	}{{"pools.ipv4", p.IPv4}, {"pools.ipv6", p.IPv6}} {
		if len(f.pools) > MaxPools {
			return Errorf(CodeInvalidRequest, "%s: got %d pools, want at most %d", f.field, len(f.pools), MaxPools)
		}
		for i, pool := range f.pools {
			if pool == "" || len(pool) > maxPodName {
				return Errorf(CodeInvalidRequest, "%s[%d]: got %.64q, want the name or the CIDR of an IPPool", f.field, i, pool)
			}
		}
	}
	if p.NoIPv4 && p.NoIPv6 {
		return Errorf(CodeInvalidRequest, "pools: noIPv4 and noIPv6 are both set; no address would be left")
	}
	return nil
}

// Validate accepts every NodeRequest.
func (r *NodeRequest) Validate() error { return nil }

// Validate reports the first member that is unusable, by name.
func (r *CheckRequest) Validate() error {
	return podAttachment(&r.Attachment, r.Netns, r.PodNamespace, r.PodName, r.PodUID)
}

// Validate reports the first member that is unusable, by name.
func (r *DelRequest) Validate() error {
	if err := r.Attachment.Validate(); err != nil {
		return err
	}
	return pod(r.PodNamespace, r.PodName, r.PodUID)
}

// Validate accepts every StatusRequest.
func (r *StatusRequest) Validate() error { return nil }

// Validate reports the first member that is unusable, by name.
func (r *GCRequest) Validate() error {
	if len(r.Valid) > MaxAttachments {
		return Errorf(CodeInvalidRequest, "valid: got %d attachments, want at most %d", len(r.Valid), MaxAttachments)
	}
	for i := range r.Valid {
		if err := r.Valid[i].Validate(); err != nil {
			return fmt.Errorf("valid[%d]: %w", i, err)
		}
	}
	return nil
}

// Validate reports the first member that the plugin could not put into effect, by name.
func (r *AddResult) Validate() error {
	if err := ifName("interfaceName", r.InterfaceName); err != nil {
		return err
	}
	suffix, ours := strings.CutPrefix(r.InterfaceName, InterfacePrefix)
	if !ours || suffix == "" {
		return Errorf(CodeDecoding, "interfaceName: got %q, want %q followed by letters and digits", r.InterfaceName, InterfacePrefix)
	}
	if n := len(r.Addresses); n < 1 || n > MaxAddresses {
		return Errorf(CodeDecoding, "addresses: got %d, want 1 to %d", n, MaxAddresses)
	}
	if err := usable("addresses", CodeDecoding, r.Addresses); err != nil {
		return err
	}
	least := minMTU
	if slices.ContainsFunc(r.Addresses, netip.Addr.Is6) {
		least = minMTUIPv6
	}
	if r.HardwareAddress != "" {
		if mac, err := net.ParseMAC(r.HardwareAddress); err != nil || len(mac) != 6 || mac[0]&1 != 0 {
			return Errorf(CodeDecoding, "hardwareAddress: got %q, want an Ethernet address of a single interface", r.HardwareAddress)
		}
	}
	if r.MTU < least || r.MTU > maxMTU {
		return Errorf(CodeDecoding, "mtu: got %d, want %d to %d", r.MTU, least, maxMTU)
	}
	return nil
}

// usable reports the first address that a pod can't have.
func usable(field string, code uint, addrs []netip.Addr) error {
	seen := make(map[netip.Addr]bool, len(addrs))
	for i, a := range addrs {
		if !a.IsGlobalUnicast() || a.Is4In6() || a.Zone() != "" {
			return Errorf(code, "%s[%d]: got %s, want a global unicast address", field, i, a)
		}
		if seen[a] {
			return Errorf(code, "%s[%d]: %s is there twice", field, i, a)
		}
		seen[a] = true
	}
	return nil
}

func podAttachment(a *Attachment, netns, namespace, podName, uid string) error {
	if err := a.Validate(); err != nil {
		return err
	}
	if !strings.HasPrefix(netns, "/") || len(netns) > maxNetns || strings.ContainsRune(netns, 0) {
		return Errorf(CodeInvalidRequest, "netns: got %.64q, want the absolute path of a network namespace", netns)
	}
	if namespace == "" || podName == "" {
		return Errorf(CodeInvalidRequest, "podNamespace, podName: must both be set; the runtime gives them as K8S_POD_NAMESPACE and K8S_POD_NAME in CNI_ARGS")
	}
	return pod(namespace, podName, uid)
}

// pod checks what there is of a pod's names. Each may be empty.
func pod(namespace, podName, uid string) error {
	for _, f := range []struct {
		field, value string
		limit        int
	}{
		{"podNamespace", namespace, maxNamespace},
		{"podName", podName, maxPodName},
		{"podUID", uid, maxPodUID},
	} {
		if f.value == "" {
			continue
		}
		if err := name(f.field, f.value, f.limit); err != nil {
			return err
		}
	}
	return nil
}

// name accepts what CNI accepts as a container ID. Kubernetes' names are a subset. Such a value cannot leave a directory.
func name(field, value string, limit int) error {
	ok := value != "" && len(value) <= limit && alphanumeric(rune(value[0]))
	for _, c := range value {
		ok = ok && (alphanumeric(c) || c == '_' || c == '.' || c == '-')
	}
	if !ok {
		return Errorf(CodeInvalidRequest, "%s: got %.64q, want 1 to %d letters, digits, '_', '.', '-', the first a letter or digit", field, value, limit)
	}
	return nil
}

// ifName accepts what the kernel accepts as an interface's name (dev_valid_name), in visible ASCII.
func ifName(field, value string) error {
	ok := value != "" && len(value) <= maxIfName && value != "." && value != ".."
	for _, c := range value {
		ok = ok && c > ' ' && c < 0x7f && c != '/' && c != ':'
	}
	if !ok {
		return Errorf(CodeInvalidRequest, "%s: got %.64q, want 1 to %d visible characters without '/' and ':'", field, value, maxIfName)
	}
	return nil
}

func alphanumeric(c rune) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
