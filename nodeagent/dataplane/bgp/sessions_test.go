package bgp

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"strings"
	"syscall"
	"testing"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/log"
	packet "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/manul-net/manul/nodeagent/tables"
	"github.com/manul-net/manul/test/netns"
)

// noSecrets has none.
type noSecrets struct{}

func (noSecrets) Password(string, string) (string, error) { return "", errors.New("there is none") }
func (noSecrets) Keep(map[string]bool)                    {}
func (noSecrets) Changed() <-chan struct{}                { return nil }

// mesh is a node with n peers, none of which is there.
func mesh(n int) *tables.BGP {
	b := tables.NewBGP()
	b.Speaker, b.SpeakerDirty = &tables.Speaker{ASNumber: 64512, RouterID: netip.MustParseAddr("127.0.0.1"), Port: 1790, Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}, true
	for i := range n {
		b.Sessions.Set(fmt.Sprintf("mesh/%03d", i), peerAt(fmt.Sprintf("127.0.1.%d", i+1)))
	}
	return b
}

func peerAt(address string) tables.BGPSession {
	return tables.BGPSession{Address: netip.MustParseAddr(address), ASNumber: 64512, LocalASNumber: 64512, Port: 1790, Group: "mesh"}
}

// TestManyPeersComeBitByBit: with thousands of them whoever calls Apply would wait for seconds, and so would policy.
func TestManyPeersComeBitByBit(t *testing.T) {
	ns := netns.New(t)
	ns.Must("speaking BGP", func() error {
		d := New(Options{Secrets: noSecrets{}})
		defer func() { _ = d.Close() }()
		d.pace = 0
		desired := mesh(100)
		desired.Sessions.Set("mesh/twice", peerAt("127.0.1.7")) // the address of another
		for applies := 1; ; applies++ {
			err := d.Apply(t.Context(), desired)
			if got := len(d.sessions); got > applies*atOnce+1 {
				t.Fatalf("after %d times there are %d sessions", applies, got)
			}
			if len(d.todo) > 0 {
				if err != nil {
					t.Errorf("something was refused early: %v", err)
				}
				<-d.Changed() // the next one is due
				continue
			}
			if len(d.sessions) != 101 || err == nil || !strings.Contains(err.Error(), "mesh/twice") {
				t.Errorf("%d sessions of 101, refused: %v", len(d.sessions), err)
			}
			break
		}
		desired.Sessions.Delete("mesh/001")
		if err := d.Apply(t.Context(), desired); err == nil || !strings.Contains(err.Error(), "mesh/twice") {
			t.Errorf("a session that is refused still is forgotten when another goes: %v", err)
		}
		desired.Sessions.Delete("mesh/twice")
		return d.Apply(t.Context(), desired)
	})
}

// TestAPeerThatComesChangesNoPolicy where no rule asks which peers there are.
func TestAPeerThatComesChangesNoPolicy(t *testing.T) {
	before, after := newRules(mesh(3), nil), newRules(mesh(4), nil)
	if !reflect.DeepEqual(before, after) {
		t.Errorf("%+v\n%+v", before, after)
	}
}

// TestWhyASessionEnded: the log says at once what the events say later. Whatever came in between, the last failure counts, until the session is
// established.
func TestWhyASessionEnded(t *testing.T) {
	addr := netip.MustParseAddr("192.0.2.1")
	key := addr.String()
	d := New(Options{Secrets: noSecrets{}})
	l := &logger{events: &d.events, log: slog.New(slog.DiscardHandler)}
	d.events.follow("tor", addr)
	changed := func(to packet.FSMState) {
		l.Debug("state changed", log.Fields{"Key": key, "new": to.String(), "reason": "x"})
	}
	event := func(to api.PeerState_SessionState) {
		d.events.takePeer(&api.Peer{State: &api.PeerState{NeighborAddress: key, SessionState: to}})
	}
	reason := func(want string) {
		t.Helper()
		if p, _ := d.events.peer(addr); p.reason != want {
			t.Errorf("the reason is %q, want %q", p.reason, want)
		}
	}
	l.Debug("failed to connect", log.Fields{"Key": key, "Error": syscall.ECONNREFUSED})
	reason(tables.BGPRefused)
	changed(packet.BGP_FSM_ESTABLISHED)
	reason("")
	l.Warn("received notification", log.Fields{"Key": key, "Code": uint8(packet.BGP_ERROR_CEASE), "Subcode": uint8(packet.BGP_ERROR_SUB_MAXIMUM_NUMBER_OF_PREFIXES_REACHED)})
	changed(packet.BGP_FSM_IDLE)
	event(api.PeerState_ESTABLISHED)
	event(api.PeerState_IDLE)
	reason(tables.BGPMaximumPrefixes)
}
