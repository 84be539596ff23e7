package apiserver

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// The ports that are tried: below those that Linux gives to whoever asks for any, above those that programs have by default.
const (
	firstPort, lastPort = 20_000, 29_999
	portAttempts        = 100
)

// FreeAddress is an address of the loopback interface, host:port, at which nobody listens.
func FreeAddress(tb testing.TB) string {
	tb.Helper()
	ports, err := freePorts(1)
	if err != nil {
		tb.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", ports[0])
}

// freePorts returns n ports of the loopback address that nobody listens on right now. They are none of those that the kernel gives to
// connections and to listeners that ask for any: of these another test's connection might have one before the program listens that it is for.
func freePorts(n int) ([]string, error) {
	ports := make([]string, 0, n)
	var errs []error
	for len(ports) < n {
		if len(errs) == portAttempts {
			return nil, fmt.Errorf("looking for a free port: %w", errors.Join(errs...))
		}
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		defer func() { _ = l.Close() }() // held until all are found, so that they differ
		ports = append(ports, strconv.Itoa(port))
	}
	return ports, nil
}
