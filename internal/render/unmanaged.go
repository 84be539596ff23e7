package render

import (
	"fmt"
	"net"

	"github.com/manul-net/manul/api/v1alpha1"
)

// maxUnmanaged bounds the addresses that a pod has without address management: one of each family.
const maxUnmanaged = 2

// AllowUnmanagedAddresses says whether pods may have addresses of their annotation cni.projectcalico.org/ipAddrsNoIpam. They are
// refused otherwise: such an address may be anybody's.
func (c *Cluster) AllowUnmanagedAddresses(allow bool) {
	if c.unmanaged != allow {
		c.unmanaged = allow
		for name := range c.nodes {
			c.touch(KindNodeState, name)
			c.touch(KindNodeNetwork, name)
		}
	}
}

// unmanagedRequest is the request for the addresses that a pod asks for without address management.
func (c *Cluster) unmanagedRequest(e *endpoint) v1alpha1.AddressRequest {
	addrs, problem := addressList(annotationUnmanaged, e.wishes.unmanaged, maxUnmanaged)
	switch {
	case problem != "":
		return v1alpha1.AddressRequest{Impossible: problem}
	case !c.unmanaged:
		return impossible("annotation %s: addresses without address management are not allowed in this cluster: use %s, or start the operator with --allow-unmanaged-addresses",
			annotationUnmanaged, annotationAddresses)
	case e.wishes.addresses != "":
		return impossible("annotation %s: %s is there too: keep one of them", annotationUnmanaged, annotationAddresses)
	case len(addrs) == 0:
		return impossible("annotation %s: is empty: name an address, or remove it", annotationUnmanaged)
	case len(addrs) == maxUnmanaged && addrs[0].Is4() == addrs[1].Is4():
		return impossible("annotation %s: has two addresses of one family: name one of each at most", annotationUnmanaged)
	}
	out := v1alpha1.AddressRequest{Unmanaged: true}
	for _, addr := range addrs {
		out.Fixed = append(out.Fixed, addr.String())
	}
	return out
}

// hardwareAddress reads the MAC address that a pod asks for, in canonical form, or tells what is wrong with it.
func hardwareAddress(text string) (mac, problem string) {
	if text == "" {
		return "", ""
	}
	const ethernet, multicast = 6, 1
	addr, err := net.ParseMAC(text)
	switch {
	case err != nil || len(addr) != ethernet:
		return "", fmt.Sprintf("annotation %s: %q is no MAC address: write it like 1c:0c:0a:c0:ff:ee", annotationMAC, text)
	case addr[0]&multicast != 0 || addr.String() == "00:00:00:00:00:00":
		return "", fmt.Sprintf("annotation %s: %s is no address of a single interface: its first byte must be even, and not all of it zero", annotationMAC, addr)
	}
	return addr.String(), ""
}
