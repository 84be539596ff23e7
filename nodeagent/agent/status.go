package agent

import (
	"cmp"
	"context"
	"reflect"
	"slices"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/nodeagent/render"
	"github.com/manul-net/manul/nodeagent/source"
	"github.com/manul-net/manul/nodeagent/tables"
)

// ConditionReady says whether the node serves pods: its kernel is equal to the rendered state.
const ConditionReady = "Ready"

// Reasons of the condition Ready.
const (
	ReasonApplied      = "Applied"
	ReasonSyncing      = "Syncing"
	ReasonApplyFailed  = "ApplyFailed"
	ReasonItemsRefused = "ItemsRefused"
)

// kindProxy is the kind of the failure to get on with kube-proxy's mode.
const kindProxy = "KubeProxy"

// kindAddress is the kind of failures to give a pod an address; the name is the pod's.
const kindAddress = "Address"

const (
	// maxFailures bounds the list of failures: a status is no log.
	maxFailures = 64
	maxMessage  = 1024
	// patience is how long news may be held back before that counts as a failure.
	patience = 5 * time.Second
)

func uidType(s string) types.UID { return types.UID(s) }

// report gives the source a new status when it says something that somebody waits for. Versions of news that does not
// concern this node go along with the next report: a change elsewhere must not make every node write.
func (a *Agent) report(ctx context.Context) {
	status := a.status(ctx)
	a.ready.set(a.readyNow())
	// An earlier agent's report stands until all is received again: a restart is no news.
	// A host that is no node has nowhere to report to while nothing is rendered for it.
	if len(a.synced) < len(source.Kinds()) || a.nodeState == nil || a.nodeState.Name == "" {
		return
	}
	worth := a.saving.again || a.pending.acknowledge && !reflect.DeepEqual(status, a.reported)
	if !worth {
		silent := status
		silent.Applied = a.reported.Applied
		worth = !reflect.DeepEqual(silent, a.reported)
	}
	if worth {
		a.pending.silent = false
		a.reported = status
		a.saving.again = false
		a.tell(source.Report{Status: *status.DeepCopy(), Urgent: a.pending.urgent, After: a.said})
	}
	a.pending.urgent = false
	if a.pending.silent {
		a.timers.acknowledge.within(jittered(a.acknowledgeWithin()))
	}
	if a.applyError == nil && len(a.heldSince) == 0 {
		a.pending.acknowledge = false // otherwise more is to be told when it comes about
	}
	a.Metrics.observe(&status, len(a.nodeState.Spec.Blocks), a.state.Policy().Members.Len(), len(a.state.Held()))
}

// acknowledgeWithin is how long the acknowledgement of news that does not concern the node may wait. It grows with the
// cluster, so that all nodes together write no more than some 16 times a second for it.
func (a *Agent) acknowledgeWithin() time.Duration {
	const share, least, most = 60 * time.Millisecond, 10 * time.Second, 10 * time.Minute
	return min(max(time.Duration(len(a.known[source.NodeNetwork]))*share, least), most)
}

func (a *Agent) status(ctx context.Context) v1alpha1.NodeStateStatus {
	sessions, groups := a.bgpStatus(ctx)
	status := v1alpha1.NodeStateStatus{
		ObservedGeneration: a.observed,
		Endpoints:          a.endpointStatus(),
		Leases:             a.leaseStatus(),
		Network:            a.networkStatus(),
		Attachments:        a.forgotten.status,
		AttachmentsTotal:   a.forgotten.total,
		NodeAddresses:      a.nodeAddresses(),
		Tunnels:            a.tunnelStatus(),
		BGPSessions:        sessions,
		BGPGroups:          groups,
		Report:             a.asking.report,
		Failures:           a.allFailures(),
		Dataplane:          a.Dataplane(),
		AgentVersion:       a.Version,
	}
	if needed, err := a.Addresses.NeedsAdoption(); needed && err == nil {
		status.Endpoints, status.Tunnels = a.earlier.Endpoints, a.earlier.Tunnels // all that there is to adopt
	}
	for kind, version := range a.applied {
		if kind == source.NodeState || version == 0 {
			continue
		}
		if status.Applied == nil {
			status.Applied = map[string]string{}
		}
		status.Applied[string(kind)] = strconv.FormatUint(version, 10)
	}
	if a.appliedOnce {
		p := a.state.Policy()
		status.Summary = v1alpha1.Summary{
			Endpoints: int32(p.Endpoints.Len()),
			Policies:  int32(p.Programs.Len()),
			Sets:      int32(p.Sets.Len()),
			Routes:    int32(a.state.Routes().Len()),
			// Interfaces with one; the one for all interfaces counts once.
			HostEndpoints: int32(p.HostEndpoints.Len()),
		}
	}
	status.Conditions = []metav1.Condition{
		a.lasting(a.readyCondition(len(status.Failures))),
		a.lasting(a.disturbedCondition()),
	}
	return status
}

func (a *Agent) readyCondition(failures int) metav1.Condition {
	c := metav1.Condition{
		Type: ConditionReady, Status: metav1.ConditionTrue, Reason: ReasonApplied,
		Message: "what was rendered for the node is in effect", LastTransitionTime: transition(time.Now()),
	}
	switch {
	case a.applyError != nil:
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, ReasonApplyFailed, clip(a.applyError.Error())
	case !a.appliedOnce:
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, ReasonSyncing, "not all rendered state has been received and applied yet"
	case failures > 0:
		c.Reason, c.Message = ReasonItemsRefused, strconv.Itoa(failures)+" items are not in effect, see failures"
	}
	return c
}

func transition(at time.Time) metav1.Time { return metav1.NewTime(at.Truncate(time.Second)) }

// lasting keeps a condition's time of transition while its status stays.
func (a *Agent) lasting(c metav1.Condition) metav1.Condition {
	for _, old := range a.reported.Conditions {
		if old.Type == c.Type && old.Status == c.Status {
			c.LastTransitionTime = old.LastTransitionTime
		}
	}
	return c
}

// allFailures lists all that is not in effect: refused by the kernel, not understood, held back too long, without
// address.
func (a *Agent) allFailures() []v1alpha1.Failure {
	out := slices.Clone(a.failures)
	for item, message := range a.state.Problems() {
		out = append(out, v1alpha1.Failure{Kind: item.Kind, Name: item.Name, Message: message})
	}
	for id, err := range a.addressErrors {
		// Not the endpoint's own failure: its policies are in effect.
		out = append(out, v1alpha1.Failure{Kind: kindAddress, Name: id, Message: err.Error()})
	}
	for name, err := range a.tunnelEnds.errors {
		out = append(out, v1alpha1.Failure{Kind: tables.KindTunnel, Name: name, Message: err.Error()})
	}
	out = append(out, a.journalFailure()...)
	out = append(out, a.overdue()...)
	slices.SortFunc(out, func(x, y v1alpha1.Failure) int {
		return cmp.Or(cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.Name, y.Name), cmp.Compare(x.Message, y.Message))
	})
	for i := range out {
		out[i].Message = clip(out[i].Message)
	}
	if a.passedByIPVS() { // the first: it concerns every policy
		out = slices.Insert(out, 0, v1alpha1.Failure{
			Kind: kindProxy, Name: "ipvs",
			Message: "kube-proxy runs in mode ipvs, or has: there is the interface " + render.IPVSInterface + ". Packets to services then pass pods' policies by " +
				"with the dataplane " + string(tables.IPTables) + ": set nftablesMode of the FelixConfiguration to Enabled or Auto, or kube-proxy's mode to nftables or iptables, " +
				"after which run kube-proxy --cleanup",
		})
	}
	if len(out) == 0 {
		return nil
	}
	return out[:min(len(out), maxFailures)]
}

// passedByIPVS tells whether there are packets that IPVS leads past policy. That of iptables can't judge them: see
// docs/design/dataplane-iptables.md.
func (a *Agent) passedByIPVS() bool {
	if _, has := a.Interfaces.Addresses()[render.IPVSInterface]; !has {
		return false
	}
	p := a.state.Policy()
	judged := a.policyInEffect && p.Settings.IPVS && !p.SettingsDirty
	return !judged || a.Dataplane() != string(tables.NFTables)
}

// overdue lists what has been held back for longer than kinds usually arrive apart.
func (a *Agent) overdue() []v1alpha1.Failure {
	var out []v1alpha1.Failure
	heldSince := map[render.Item]time.Time{}
	for _, h := range a.state.Held() {
		since, ok := a.heldSince[h.Item]
		if !ok {
			since = time.Now()
		}
		heldSince[h.Item] = since
		if age := time.Since(since); age < patience {
			a.timers.apply.within(patience - age)
			continue
		}
		out = append(out, v1alpha1.Failure{Kind: h.Kind, Name: h.Name, Message: "waits for " + h.WaitsFor})
	}
	a.heldSince = heldSince
	return out
}

func clip(s string) string {
	if len(s) > maxMessage {
		return s[:maxMessage]
	}
	return s
}

// missingKinds lists the kinds that were not received yet.
func (a *Agent) missingKinds() []string {
	var missing []string
	for _, kind := range source.Kinds() {
		if !a.synced[kind] {
			missing = append(missing, string(kind))
		}
	}
	return missing
}
