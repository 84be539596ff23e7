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

// ParseProtocol returns the IANA number of a protocol that is given by name or number.
func ParseProtocol(protocol intstr.IntOrString) (int32, error) {
	number := int(protocol.IntVal)
	if protocol.Type == intstr.String {
		switch strings.ToLower(protocol.StrVal) {
		case "tcp":
			return ProtocolTCP, nil
		case "udp":
			return ProtocolUDP, nil
		case "icmp":
			return ProtocolICMP, nil
		case "icmpv6":
			return ProtocolICMPv6, nil
		case "sctp":
			return ProtocolSCTP, nil
		case "udplite":
			return ProtocolUDPLite, nil
		}
		parsed, err := strconv.ParseUint(protocol.StrVal, 10, 16)
		number = int(parsed)
		if err != nil {
			return 0, errors.New("write TCP, UDP, SCTP, ICMP, ICMPv6, UDPLite or a protocol number from 1 to 255")
		}
	}
	if number < 1 || number > 255 {
		return 0, errors.New("a protocol number is from 1 to 255")
	}
	return int32(number), nil
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
		a, errA := strconv.Atoi(first)
		b, errB := strconv.Atoi(last)
		if errA != nil || errB != nil {
			return Port{}, errors.New(`a range of ports is two numbers with a colon between them: "8000:8080"`)
		}
		return portRange(a, b)
	}
	if number, err := strconv.Atoi(port.StrVal); err == nil {
		return portRange(number, number)
	}
	if err := checkPortName(port.StrVal); err != nil {
		return Port{}, err
	}
	return Port{Name: port.StrVal}, nil
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
