package nftables

import "github.com/google/nftables/expr"

// IPVS, which kube-proxy uses in mode ipvs, takes packets to services out of the end of the input hook, puts the chosen endpoint's address
// into them, and sends them on by the output and the postrouting hook. They never pass the forward hook. So a bit of the mark goes with
// what comes in, up to where IPVS takes it or leaves it to the node, and the forward hook's rules are applied to what postrouting sees
// with that bit. There, since Linux 5.7, the kernel knows by which interface it came, too. What IPVS leaves is for the node itself,
// and is judged behind IPVS, which may have put the address of the node into it.

// throughMark is the bit of the packet mark that tells what came in from what the node itself sends.
const throughMark = 0x00200000

// ipvsArrive marks what comes in, before IPVS.
func (l *layout) ipvsArrive() []*ruleBuilder {
	r := &rules{l: l}
	r.connectionsPass()
	r.add().setMark(throughMark, true)
	return r.list
}

// ipvsInput is inputEgress behind IPVS.
func (l *layout) ipvsInput() []*ruleBuilder {
	r := &rules{l: l}
	r.add().setMark(throughMark, false)
	return append(r.list, l.inputEgress()...)
}

// throughPasses lets what IPVS has sent on pass where the node's own packets are looked at.
func (r *rules) throughPasses(clearEarly bool) {
	if !r.l.settings.IPVS {
		return
	}
	b := r.add()
	b.hasMark(throughMark, false)
	if clearEarly {
		b.setMark(earlyMark, false)
	}
	b.accept()
}

// ipvsOutput clears the bit that a program of the node has set for purposes of its own. What IPVS sends on belongs to no socket.
func (l *layout) ipvsOutput() []*ruleBuilder {
	r := &rules{l: l}
	b := r.add()
	b.meta(expr.MetaKeySKUID)
	b.setMark(throughMark, false)
	return r.list
}

// ipvsEgress is forwardEgress for what IPVS has sent on.
func (l *layout) ipvsEgress() []*ruleBuilder {
	r := &rules{l: l}
	r.connectionsPass()
	b := r.add()
	b.hasMark(throughMark, true)
	b.accept()
	// Kernels before 5.7 don't tell by which interface it came, and policy can't be asked.
	b = r.add()
	b.iface(expr.MetaKeyIIFNAME, "")
	b.drop()
	return append(r.list, l.forwardEgress()...)
}

// ipvsIngress is forwardIngress for what IPVS has sent on.
func (l *layout) ipvsIngress() []*ruleBuilder {
	r := &rules{l: l}
	b := r.add()
	b.hasMark(throughMark, true)
	b.accept()
	r.add().setMark(throughMark, false)
	return append(r.list, l.forwardIngress()...)
}
