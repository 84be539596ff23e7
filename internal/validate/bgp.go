package validate

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"

	v3 "github.com/manul-net/manul/api/v3"
)

const (
	// maxRestart is the longest restart time that fits the capability, 12 bits of seconds (RFC 4724, section 3).
	maxRestart = 4095 * time.Second
	// The hold time is three times the keepalive time, 3 to 65535 seconds (RFC 4271, section 4.2).
	minKeepalive, maxKeepalive = time.Second, 21845 * time.Second
	// maxFilters is how many filters a session may have.
	maxFilters = 100
	// maxPathPrefix is how many AS numbers a rule may compare a path with, maxOperations how many operations it may have.
	maxPathPrefix, maxOperations, maxPrepend = 256, 10, 10
	// maxFilterRules is how many rules a filter may have for a direction and a family.
	maxFilterRules = 512
)

// PeerAddress reads the peerIP of a BGPPeer: an address, with a port if it is not 179. Without one the port is 0.
func PeerAddress(text string) (netip.AddrPort, error) {
	bad := errors.New(`write an IP address, with a port if it is not 179: "192.0.2.1", "192.0.2.1:1790" or "[2001:db8::1]:1790"`)
	addr, err := netip.ParseAddr(text)
	at := netip.AddrPortFrom(addr, 0)
	if err != nil {
		if at, err = netip.ParseAddrPort(text); err != nil || at.Port() == 0 {
			return netip.AddrPort{}, bad
		}
	}
	switch addr := at.Addr(); {
	case addr.Zone() != "" || addr.Is4In6():
		return netip.AddrPort{}, bad
	case addr.IsUnspecified() || addr.IsMulticast() || addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return netip.AddrPort{}, errors.New("no router can have this address: write the address of the peer's interface")
	case addr.Is6() && addr.IsLinkLocalUnicast():
		return netip.AddrPort{}, errors.New("a link-local address says nothing without an interface: write a global address of the peer")
	}
	return at, nil
}

// Community checks the value of a community: aa:nn (RFC 1997) or aaaa:nnnn:mmmm (RFC 8092).
func Community(text string) error {
	parts := strings.Split(text, ":")
	bits := map[int]int{2: 16, 3: 32}[len(parts)]
	if bits == 0 {
		return errors.New(`write a community as "aa:nn" such as "65001:100", or a large one as "aaaa:nnnn:mmmm"`)
	}
	for _, part := range parts {
		if digits := strings.Trim(part, "0123456789"); part == "" || digits != "" {
			return errors.New(`write a community in numbers: "65001:100", or a large one "65001:1:100"`)
		}
		if _, err := strconv.ParseUint(part, 10, bits); err != nil && bits == 16 {
			return fmt.Errorf("%s is above 65535: write a large community of three numbers, such as %q", part, parts[0]+":0:"+parts[1])
		} else if err != nil {
			return fmt.Errorf("%s is above 4294967295, the greatest number in a large community", part)
		}
	}
	return nil
}

// checkPassword accepts a password that names a key of a secret, or none.
func checkPassword(path *field.Path, password *v3.BGPPassword) field.ErrorList {
	if password == nil {
		return nil
	}
	ref := password.SecretKeyRef
	path = path.Child("secretKeyRef")
	if ref == nil {
		return field.ErrorList{field.Required(path, "name the secret and its key that hold the password, or remove the field above")}
	}
	var errs field.ErrorList
	if ref.Name == "" {
		errs = append(errs, field.Required(path.Child("name"), "write the name of a secret in the namespace of the node agents"))
	}
	if ref.Key == "" {
		errs = append(errs, field.Required(path.Child("key"), "write the key of the secret under which the password is"))
	}
	return errs
}

// checkSpan bounds a duration that may be absent.
func checkSpan(path *field.Path, d *v3.Duration, low, high time.Duration) field.ErrorList {
	if d == nil {
		return nil
	}
	span, err := d.Parse()
	switch {
	case err != nil || !plainDuration(string(*d)) || *d == "":
		return field.ErrorList{field.Invalid(path, string(*d), `write a duration such as "90s" or "2m"`)}
	case span < low || span > high:
		return field.ErrorList{field.Invalid(path, string(*d), fmt.Sprintf("write a duration from %ds to %ds", low/time.Second, high/time.Second))}
	}
	return nil
}

// checkAS accepts an AS number that may be absent.
func checkAS(path *field.Path, as *v3.ASNumber) field.ErrorList {
	if as != nil && *as == 0 {
		return field.ErrorList{field.Invalid(path, 0, "AS number 0 is nobody's (RFC 7607): write one from 1 to 4294967295, or remove the field")}
	}
	return nil
}

// checkCIDR accepts a CIDR in canonical form.
func checkCIDR(path *field.Path, text string) (netip.Prefix, field.ErrorList) {
	cidr, err := ParseCIDR(text)
	if err != nil {
		return cidr, field.ErrorList{field.Invalid(path, text, err.Error())}
	}
	return cidr, nil
}
