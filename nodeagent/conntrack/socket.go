package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/nodeagent/connections"
)

// Of include/uapi/linux/inet_diag.h: struct inet_diag_req_v2, and where struct inet_diag_msg has what is of interest.
const (
	diagIDOffset     = 8 // of the socket's ID in the request
	diagRequestLen   = 56
	diagMessageLen   = 72
	diagStateAt      = 1
	diagPortsAt      = 4
	diagSourceAt     = 8
	diagRemoteAt     = 24
	diagCookieAt     = 44
	diagCookieLen    = 8
	diagIDCookieAt   = 40 // in the socket's ID
	tcpStateListen   = 10
	tcpStateTimeWait = 6
)

// diagRequest asks for a socket or says which one is meant.
type diagRequest [diagRequestLen]byte

func (r *diagRequest) Len() int          { return diagRequestLen }
func (r *diagRequest) Serialize() []byte { return r[:] }

func newDiagRequest(own, other netip.AddrPort) *diagRequest {
	r := &diagRequest{unix.AF_INET, unix.IPPROTO_TCP}
	if own.Addr().Is6() {
		r[0] = unix.AF_INET6
	}
	for i := range 4 {
		r[4+i] = 0xff // sockets of all states
	}
	id := r[diagIDOffset:]
	binary.BigEndian.PutUint16(id, own.Port())
	binary.BigEndian.PutUint16(id[2:], other.Port())
	copy(id[4:], own.Addr().AsSlice())
	copy(id[20:], other.Addr().AsSlice())
	r.setCookie([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}) // any
	return r
}

func (r *diagRequest) setCookie(cookie []byte) {
	copy(r[diagIDOffset+diagIDCookieAt:], cookie[:diagCookieLen])
}

// Abort ends a TCP connection of the node itself at its socket, whose own end is the tuple's source: both programs learn of
// it. A connection that the kernel only forgot would come back with the next packet that the node sends. It tells whether
// there was such a socket.
func (t *Table) Abort(own connections.Tuple) (bool, error) {
	ours, other := own.Source, own.Destination
	request := newDiagRequest(ours, other)
	cookie, err := t.findSocket(request, ours, other)
	if err == nil && cookie != nil {
		request.setCookie(cookie)
		destroy := t.diag(nl.SOCK_DESTROY, unix.NLM_F_ACK)
		destroy.AddData(request)
		_, err = destroy.Execute(unix.NETLINK_INET_DIAG, 0)
	}
	switch {
	case errors.Is(err, unix.ENOENT), err == nil && cookie == nil:
		return false, nil
	case err != nil:
		return false, fmt.Errorf("ending the socket from %s to %s: %w", ours, other, err)
	}
	return true, nil
}

// findSocket gives the cookie of the connection's socket; nil when there is none. Where there is none the kernel gives the
// socket that listens at that port, which must not be ended.
func (t *Table) findSocket(r *diagRequest, ours, other netip.AddrPort) ([]byte, error) {
	request := t.diag(nl.SOCK_DIAG_BY_FAMILY, 0)
	request.AddData(r)
	answers, err := request.Execute(unix.NETLINK_INET_DIAG, nl.SOCK_DIAG_BY_FAMILY)
	if err != nil {
		return nil, err
	}
	for _, m := range answers {
		if len(m) < diagMessageLen || m[diagStateAt] == tcpStateListen || m[diagStateAt] == tcpStateTimeWait {
			continue
		}
		source := addressAt(m[diagSourceAt:], binary.BigEndian.Uint16(m[diagPortsAt:]), ours.Addr())
		remote := addressAt(m[diagRemoteAt:], binary.BigEndian.Uint16(m[diagPortsAt+2:]), ours.Addr())
		if source == ours && remote == other {
			return m[diagCookieAt : diagCookieAt+diagCookieLen], nil
		}
	}
	return nil, nil
}

// addressAt reads an address that may be that of a socket for both families.
func addressAt(b []byte, port uint16, like netip.Addr) netip.AddrPort {
	if like.Is4() {
		if a := netip.AddrFrom16([16]byte(b[:16])); a.Is4In6() {
			return netip.AddrPortFrom(a.Unmap(), port)
		}
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[:4])), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[:16])), port)
}

func (t *Table) diag(message, flags int) *nl.NetlinkRequest {
	r := nl.NewNetlinkRequest(message, flags|unix.NLM_F_REQUEST)
	r.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_INET_DIAG: t.sockets}
	return r
}
