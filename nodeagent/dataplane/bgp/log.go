package bgp

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"syscall"

	"github.com/osrg/gobgp/v3/pkg/log"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/manul-net/manul/nodeagent/tables"
)

// logger takes the speaker's log. The log is the only place where the speaker says why a session fails, some of it at the
// level of debug messages. It must not call the speaker, which may hold its locks.
type logger struct {
	events *events
	log    *slog.Logger
}

var _ log.Logger = (*logger)(nil)

// Panic implements log.Logger. The agent must survive its speaker.
func (l *logger) Panic(msg string, fields log.Fields) { l.Error(msg, fields) }

// Fatal implements log.Logger.
func (l *logger) Fatal(msg string, fields log.Fields) { l.Error(msg, fields) }

// Error implements log.Logger.
func (l *logger) Error(msg string, fields log.Fields) {
	l.log.Error("BGP: "+msg, attributes(fields)...)
}

// Warn implements log.Logger.
func (l *logger) Warn(msg string, fields log.Fields) {
	l.look(msg, fields)
	l.log.Info("BGP: "+msg, attributes(fields)...)
}

// Info implements log.Logger.
func (l *logger) Info(msg string, fields log.Fields) { l.log.Debug("BGP: "+msg, attributes(fields)...) }

// Debug implements log.Logger.
func (l *logger) Debug(msg string, fields log.Fields) { l.look(msg, fields) }

// SetLevel implements log.Logger.
func (l *logger) SetLevel(log.LogLevel) {}

// GetLevel implements log.Logger.
func (l *logger) GetLevel() log.LogLevel { return log.DebugLevel }

func attributes(fields log.Fields) []any {
	var out []any
	for _, key := range []string{"Key", "State", "Reason", "Code", "Subcode", "Error", "error", "Err", "Data"} {
		if v, ok := fields[key]; ok {
			out = append(out, slog.String(key, fmt.Sprint(v)))
		}
	}
	return out
}

// look finds in messages why a session is not established.
func (l *logger) look(msg string, fields log.Fields) {
	switch msg {
	case "failed to connect", "sent notification", "received notification", "state changed", "hold timer expired":
	default:
		return
	}
	key, _ := fields["Key"].(string)
	addr, err := netip.ParseAddr(key)
	if err != nil {
		return
	}
	switch msg {
	case "failed to connect":
		err, _ := fields["Error"].(error)
		reason, message := connectFailure(err)
		l.events.failed(addr, reason, message)
	case "hold timer expired":
		l.events.failed(addr, tables.BGPUnreachable, "the hold time passed without a message of the peer's")
	case "sent notification":
		if e, ok := fields["Data"].(*bgp.MessageError); ok {
			l.events.failed(addr, notificationReason(e.TypeCode, e.SubTypeCode), "closed by this node: "+e.Message)
		}
	case "received notification":
		code, _ := fields["Code"].(uint8)
		sub, _ := fields["Subcode"].(uint8)
		l.events.failed(addr, notificationReason(code, sub), "closed by the peer: "+bgp.NewNotificationErrorCode(code, sub).String())
	case "state changed":
		// Here, since the event of it may come after what ends the session again.
		if fields["new"] == bgp.BGP_FSM_ESTABLISHED.String() {
			l.events.failed(addr, "", "")
		}
		// The speaker does not tell what a peer says that closes a session while it is being opened.
		if fields["new"] == bgp.BGP_FSM_IDLE.String() && fmt.Sprint(fields["reason"]) == "invalid-msg" {
			l.events.refused(addr)
		}
	}
}

// noAnswer is the reason of attempts to which there was no answer at all. A kernel drops packets without the right password
// (RFC 2385) without a word.
const noAnswer = "NoAnswer"

// connectFailure says why no connection to a peer came about.
func connectFailure(err error) (reason, message string) {
	switch {
	case err == nil:
		return tables.BGPUnreachable, "no connection"
	case errors.Is(err, syscall.ECONNREFUSED):
		return tables.BGPRefused, "connecting: the peer's host refuses connections to its port"
	}
	if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
		return noAnswer, "connecting: the peer does not answer"
	}
	return tables.BGPUnreachable, "connecting: " + err.Error()
}

// notificationReason reads codes of RFC 4271, section 4.5, and RFC 4486.
func notificationReason(code, sub uint8) string {
	switch {
	case code == bgp.BGP_ERROR_OPEN_MESSAGE_ERROR && sub == bgp.BGP_ERROR_SUB_BAD_PEER_AS:
		return tables.BGPASMismatch
	case code == bgp.BGP_ERROR_CEASE && sub == bgp.BGP_ERROR_SUB_MAXIMUM_NUMBER_OF_PREFIXES_REACHED:
		return tables.BGPMaximumPrefixes
	case code == bgp.BGP_ERROR_HOLD_TIMER_EXPIRED:
		return tables.BGPUnreachable
	}
	return tables.BGPRefused
}

// refused notes that a peer closed the session while it was being opened, unless this node did and said why.
func (e *events) refused(addr netip.Addr) {
	e.mu.Lock()
	p := e.peers[addr]
	known := p == nil || p.reason == tables.BGPASMismatch
	e.mu.Unlock()
	if !known {
		e.failed(addr, tables.BGPRefused, "the peer closes the session while it is being opened: compare the AS numbers and addresses at both ends; "+
			"a peer that did not hear of the end of an earlier session refuses until its hold time is over")
	}
}
