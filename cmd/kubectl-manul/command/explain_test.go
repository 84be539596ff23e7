package command

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/manul-net/manul/cmd/kubectl-manul/policing"
)

func TestPacketsAreReadFromFlags(t *testing.T) {
	for _, x := range []struct {
		protocol         string
		port, source     int
		icmpType, code   int
		words, wantError string
	}{
		{protocol: "TCP", port: 80, icmpType: -1, words: "TCP port 80"},
		{protocol: "udp", port: 53, source: 4000, icmpType: -1, words: "udp port 4000 to 53"},
		{protocol: "ICMP", icmpType: -1, words: "ICMP type 8 code 0"},
		{protocol: "ICMPv6", icmpType: 1, code: 4, words: "ICMPv6 type 1 code 4"},
		{protocol: "47", icmpType: -1, words: "protocol 47"},
		{protocol: "TCP", icmpType: -1, wantError: "--port 0: TCP needs one of 1 to 65535"},
		{protocol: "SCTP", port: 65536, icmpType: -1, wantError: "--port 65536: SCTP needs"},
		{protocol: "UDP", port: 53, source: -1, icmpType: -1, wantError: "--source-port -1"},
		{protocol: "TPC", port: 80, icmpType: -1, wantError: `--protocol "TPC"`},
		{protocol: "47", port: 80, icmpType: -1, wantError: "protocol 47 has no ports"},
		{protocol: "ICMP", icmpType: 256, wantError: "--icmp-type 256"},
	} {
		var p policing.Packet
		words, err := readPacket(&p, x.protocol, x.port, x.source, x.icmpType, x.code)
		switch {
		case x.wantError == "" && (err != nil || words != x.words):
			t.Errorf("%+v: %q, %v", x, words, err)
		case x.wantError != "" && (err == nil || !strings.Contains(err.Error(), x.wantError)):
			t.Errorf("%+v: %v", x, err)
		}
	}
}

// As with kubectl, what is named without a namespace is in that of -n, or of the context.
func TestNamesWithoutANamespace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte(`{apiVersion: v1, kind: Config, current-context: c, clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}],
contexts: [{name: c, context: {cluster: c, namespace: shop}}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ flag, arg, want string }{
		{"", "web-0", "shop/web-0"},
		{"yaobank", "customer-68d67b588d-xk2c4", "yaobank/customer-68d67b588d-xk2c4"},
		{"yaobank", "shop/web-0", "shop/web-0"},
		{"yaobank", "10.48.0.7", "10.48.0.7"},
		{"yaobank", "10.48.0.700", "10.48.0.700"},
		{"yaobank", "10.48.0.0/24", "10.48.0.0/24"},
		{"yaobank", "fd00::7", "fd00::7"},
		{"yaobank", "Web!", "Web!"},
	} {
		o := &options{loading: &clientcmd.ClientConfigLoadingRules{ExplicitPath: file}}
		o.overrides.Context.Namespace = x.flag
		if got, err := o.qualified(x.arg); err != nil || got != x.want {
			t.Errorf("-n %q %s: %q, %v, want %q", x.flag, x.arg, got, err, x.want)
		}
	}
}
