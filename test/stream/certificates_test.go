package stream

import (
	"crypto/tls"
	"testing"
	"time"

	"github.com/manul-net/manul/internal/wire"
	"github.com/manul-net/manul/webhooks/certs"
)

// renew gives all replicas the next certificate, as the operator does: agents trust both for a while.
func (n *network) renew() {
	n.t.Helper()
	names := []string{wire.ServerName(namespace)}
	pair, err := certs.Make(time.Now(), names, n.pairNow())
	if err != nil {
		n.t.Fatal(err)
	}
	cert, err := pair.Check(time.Now(), names)
	if err != nil {
		n.t.Fatal(err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pair, n.cert = pair, cert
}

// TestCertificatesAreRenewedUnderLiveStreams: streams go on when the operator's certificate is renewed, and who calls afterwards is shown the new one:
// agents that lost their replica, and the replica that tells the leader what it hears. Nobody trusts the one before the last.
func TestCertificatesAreRenewedUnderLiveStreams(t *testing.T) {
	n := newNetwork(t, 2)
	n.set(node("n1"), node("n2"), team("team"), pod(1, "n1", "red"), pod(2, "n2", "red"), pod(3, "n2", "blue"))
	one, two := n.replicas[0], n.replicas[1]
	a, b := n.agent("n1", nil, one, two), n.agent("n2", nil, two, one)
	n.agree(a, b)
	first := n.trusted()
	_, toldA, _ := a.News()
	_, toldB, _ := b.News()
	for i, name := range []string{"p", "q"} {
		n.renew()
		n.set(letIn(name, `colour == "red"`, `colour == "blue"`))
		n.agree(a, b)
		n.enforced(one, name, 2)
		if _, again, _ := a.News(); again != toldA {
			t.Errorf("n1 was told everything anew when certificate %d came", i+2)
		}
		if _, again, _ := b.News(); again != toldB {
			t.Errorf("n2 was told everything anew when certificate %d came", i+2)
		}
	}
	n.silence() // from now on the leader hears n2 by way of a connection that was made with the last certificate
	two.stop()
	n.start(two)
	one.stop()
	n.start(one)
	n.set(letIn("r", `colour == "red"`, `name == "pod-3"`))
	n.agree(a, b)
	n.enforced(one, "r", 2)
	config := &tls.Config{RootCAs: first, ServerName: wire.ServerName(namespace)}
	if _, err := call(t, one.address, config, "n1", &wire.Up{Hello: &wire.Hello{Node: "n1"}}, wire.Codec{}); err == nil {
		t.Error("a certificate was taken that is not the one that is trusted")
	}
}
