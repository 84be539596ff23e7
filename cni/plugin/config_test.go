package plugin

import (
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"
)

func TestConfigErrorsNameTheField(t *testing.T) {
	for config, want := range map[string]string{
		`{"name":"manul","mtu":"big"}`:                     "mtu",
		`{"name":"manul","mtu":-1}`:                        "mtu: got -1",
		`{"name":"manul","mtu":70000}`:                     "mtu: got 70000",
		`{"name":"manul","sokcet":"/run/x"}`:               `unknown field "sokcet"`,
		`{"name":"manul","ipam":{"ipv4_pools":["a"]}}`:     `ipam.type: missing`,
		`{"name":"manul","ipam":{"type":"calico-ipam"}}`:   `ipam.type: got "calico-ipam", want manul-ipam`,
		`{"name":"manul","ipam":{"type":"../host-local"}}`: `ipam.type: got "../host-local"`,
		`{"name":"manul","socket":"run/x"}`:                `socket: got "run/x", want an absolute path`,
		`{"name":"manul","stateDir":""}`:                   "stateDir",
		`{"name":"manul","logLevel":"loud"}`:               `logLevel: got "loud"`,
		`{"name":"manul","logLevel":3}`:                    "logLevel",
		`{"name":"manul"}{}`:                               "more than one JSON value",
		`{"name":`:                                         "unexpected EOF",
		`{"name":"manul","cni.dev/valid-attachments":"x"}`: "cni.dev/valid-attachments",
	} {
		_, err := parseConfig([]byte(config))
		wantCode(t, err, types.ErrInvalidNetworkConfig, want)
		if err != nil && !strings.HasPrefix(err.Error(), "network configuration of plugin manul: ") {
			t.Errorf("%s: %v", config, err)
		}
	}
}

func TestConfigDefaults(t *testing.T) {
	c, err := parseConfig([]byte(`{"cniVersion":"1.0.0","name":"manul","type":"manul","runtimeConfig":{"portMappings":[]},"args":{"cni":{}}}`))
	if err != nil {
		t.Fatal(err)
	}
	if c.Socket != "/run/manul/cni.sock" || c.queue().Dir != "/var/lib/manul/cni/deferred" || c.MTU != 0 {
		t.Errorf("got %+v", c)
	}
}

func TestParseArgs(t *testing.T) {
	for args, want := range map[string]pod{
		"": {},
		"IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=a.b;K8S_POD_UID=u;K8S_POD_INFRA_CONTAINER_ID=c": {"ns", "a.b", "u"},
		"K8S_POD_NAME;=;;K8S_POD_NAMESPACE=a=b": {namespace: "a=b"},
	} {
		if diff := cmp.Diff(want, parseArgs(args), cmp.AllowUnexported(pod{})); diff != "" {
			t.Errorf("%q (-want +got):\n%s", args, diff)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(`{"cniVersion":"1.1.0","name":"manul","type":"manul","prevResult":{"cniVersion":"1.1.0","ips":[{"address":"10.0.0.1/32"}]}}`))
	f.Add([]byte(`{"cniVersion":"0.3.1","prevResult":{"ips":[{"version":"4","address":"10.0.0.1/32"}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseConfig(data)
		if err != nil {
			return
		}
		if prev, err := c.previous(); err == nil && prev != nil {
			_ = attachment{}.compare(prev, false)
		}
	})
}
