package interfaces

import (
	"encoding/binary"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// links are the interfaces by their index, as last seen: enough to tell news from noise.
type links struct {
	names     map[int]string // of those that are no workload's
	workloads map[int]struct{}
	// gone counts the workloads' interfaces that were removed.
	gone int
}

func newLinks() links { return links{names: map[int]string{}, workloads: map[int]struct{}{}} }

func isWorkload(name, prefix string) bool { return prefix != "" && strings.HasPrefix(name, prefix) }

// look tells whether a message means that what is known is out of date. Pods that come and go mean nothing.
func (l *links) look(message *syscall.NetlinkMessage, workloadPrefix string) bool {
	switch message.Header.Type {
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		if len(message.Data) < unix.SizeofIfAddrmsg {
			return false
		}
		_, workload := l.workloads[int(binary.NativeEndian.Uint32(message.Data[4:]))] // ifa_index
		return !workload
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		if len(message.Data) < unix.SizeofIfInfomsg {
			return false
		}
		index := int(int32(binary.NativeEndian.Uint32(message.Data[4:]))) // ifi_index
		if message.Header.Type == unix.RTM_DELLINK {
			_, workload := l.workloads[index]
			delete(l.workloads, index)
			if workload {
				l.gone++
			}
			return !workload
		}
		return l.isNews(index, nameOf(message), workloadPrefix)
	}
	return false
}

// isNews tells whether an interface is new or has another name than it had; otherwise its flags changed, or its statistics.
func (l *links) isNews(index int, name, workloadPrefix string) bool {
	known, ok := l.names[index]
	if !ok && isWorkload(name, workloadPrefix) {
		l.workloads[index] = struct{}{}
		return false
	}
	return known != name
}

func nameOf(message *syscall.NetlinkMessage) string {
	attributes, err := nl.ParseRouteAttr(message.Data[unix.SizeofIfInfomsg:])
	if err != nil {
		return ""
	}
	for _, a := range attributes {
		if a.Attr.Type == unix.IFLA_IFNAME {
			name, _, _ := strings.Cut(string(a.Value), "\x00")
			return name
		}
	}
	return ""
}
