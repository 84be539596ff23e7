package validate

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/intstr"
)

// IANA protocol numbers that rules know by name.
const (
	ProtocolICMP    = 1
	ProtocolTCP     = 6
	ProtocolUDP     = 17
	ProtocolICMPv6  = 58
	ProtocolSCTP    = 132
	ProtocolUDPLite = 136
)

// ParseProtocol returns the IANA number of a protocol that is given by number, or by name: as it is written usually, or in small letters.
func ParseProtocol(protocol intstr.IntOrString) (int32, error) {
	number := int(protocol.IntVal)
	if protocol.Type == intstr.String {
		if number, ok := protocolNamed(protocol.StrVal); ok {
			return number, nil
		}
		parsed, err := strconv.ParseUint(protocol.StrVal, 10, 16)
		number = int(parsed)
		if err != nil || strconv.Itoa(number) != protocol.StrVal {
			return 0, errors.New(protocolAdvice(protocol.StrVal))
		}
	}
	if number < 1 || number > 255 {
		return 0, errors.New("a protocol number is from 1 to 255")
	}
	return int32(number), nil
}

// protocolNames are the names in the order in which people are told of them.
func protocolNames() []string { return []string{"TCP", "UDP", "SCTP", "ICMP", "ICMPv6", "UDPLite"} }

func protocolNamed(name string) (int32, bool) {
	switch name {
	case "TCP", "tcp":
		return ProtocolTCP, true
	case "UDP", "udp":
		return ProtocolUDP, true
	case "ICMP", "icmp":
		return ProtocolICMP, true
	case "ICMPv6", "icmpv6":
		return ProtocolICMPv6, true
	case "SCTP", "sctp":
		return ProtocolSCTP, true
	case "UDPLite", "udplite":
		return ProtocolUDPLite, true
	}
	return 0, false
}

// protocolAdvice is what to write instead of a text that is no protocol.
func protocolAdvice(text string) string {
	for _, name := range protocolNames() {
		if strings.EqualFold(name, text) {
			return "write " + name
		}
	}
	return "write " + strings.Join(protocolNames(), ", ") + " or a protocol number from 1 to 255"
}

// HasPorts tells whether packets of a protocol have ports on which rules can match.
func HasPorts(protocol int32) bool {
	return protocol == ProtocolTCP || protocol == ProtocolUDP || protocol == ProtocolSCTP
}

// Port is a port of a rule: a range, or a name.
type Port struct {
	// Name of the port; empty for a range.
	Name string
	// First and Last port of the range, both included.
	First, Last int32
}

// maxPortName is the greatest length of the name of a port.
const maxPortName = 128

// ParsePort reads a port: a number, a range "a:b", or a name.
func ParsePort(port intstr.IntOrString) (Port, error) {
	if port.Type == intstr.Int {
		return portRange(int(port.IntVal), int(port.IntVal))
	}
	if first, last, ok := strings.Cut(port.StrVal, ":"); ok {
		a, okA := digits(first)
		b, okB := digits(last)
		if !okA || !okB {
			return Port{}, errors.New(`a range of ports is two numbers with a colon between them: "8000:8080"`)
		}
		return portRange(a, b)
	}
	if number, ok := digits(port.StrVal); ok {
		return portRange(number, number)
	}
	if err := checkPortName(port.StrVal); err != nil {
		return Port{}, err
	}
	return Port{Name: port.StrVal}, nil
}

// digits reads a text that is all digits, however many: what is larger than any port is 65536.
func digits(text string) (int, bool) {
	if text == "" || strings.Trim(text, "0123456789") != "" {
		return 0, false
	}
	number, err := strconv.Atoi(text)
	if err != nil {
		return 1 << 16, true
	}
	return number, true
}

func checkPortName(name string) error {
	if name == "" || len(name) > maxPortName {
		return fmt.Errorf("the name of a port has 1 to %d characters", maxPortName)
	}
	for _, c := range name {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.ContainsRune("_.-", c):
		default:
			return errors.New(`write a number, a range such as "8000:8080", or the name of a port (letters, digits, "_", "." and "-")`)
		}
	}
	return nil
}

func portRange(first, last int) (Port, error) {
	if first < 1 || last < 1 || first > 65535 || last > 65535 {
		return Port{}, errors.New("a port is a number from 1 to 65535")
	}
	if first > last {
		return Port{}, fmt.Errorf(`the first port of a range is not above the last: write "%d:%d"`, last, first)
	}
	return Port{First: int32(first), Last: int32(last)}, nil
}

// ParseNet reads a CIDR, or an address, which stands for the CIDR of that address alone. The result is masked. An error
// beside a valid result means that bits are set behind the prefix and says what to write instead.
func ParseNet(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" && !addr.Is4In6() {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil || prefix.Addr().Is4In6() {
		return netip.Prefix{}, errors.New(`write a CIDR such as "10.0.0.0/8" or "2001:db8::/32"`)
	}
	if masked := prefix.Masked(); masked != prefix {
		return masked, fmt.Errorf("bits behind the prefix are set: write %s", masked)
	}
	return prefix, nil
}

// ParseCIDR reads a CIDR: unlike ParseNet no plain address.
func ParseCIDR(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" && !addr.Is4In6() {
		return netip.Prefix{}, fmt.Errorf("the prefix length is missing: write %s/%d for this address alone", addr, addr.BitLen())
	}
	return ParseNet(text)
}
