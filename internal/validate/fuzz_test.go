package validate

import (
	"encoding/json"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// seeds are specs of many kinds, right ones and wrong ones.
func seeds() []string {
	return []string{
		`{"tier":"x","order":1.5,"types":["Ingress"],"selector":"a == 'b'","ingress":[{"action":"Allow","protocol":"TCP","destination":{"ports":[80,"1:2","http"]}}]}`,
		`{"preDNAT":true,"doNotTrack":true,"egress":[{"action":"LOG","source":{"nets":["10.0.0.1/8","::/0"],"notNets":["0.0.0.0/0"]}}]}`,
		`{"ingress":[{"action":"Allow","http":{"methods":["GET"],"paths":[{"exact":"/a","prefix":"/b"}]},"icmp":{"code":3},"ipVersion":5}]}`,
		`{"egress":[{"action":"Deny","destination":{"services":{"name":"s"},"selector":"a"},"protocol":"udp","notProtocol":300}]}`,
		`{"podSelector":{"matchExpressions":[{"key":"a","operator":"X"}]},"ingress":[{"from":[{"ipBlock":{"cidr":"10.0.0.0/8","except":["11.0.0.0/8"]}}],"ports":[{"port":1,"endPort":0}]}]}`,
		`{"interfaceName":"*","expectedIPs":["1.2.3.4","::ffff:1.2.3.4"],"ports":[{"name":"a","protocol":6,"port":1}],"profiles":[""]}`,
		`{"cidr":"10.48.0.0/16","blockSize":26,"nodeSelector":"all()","ipipMode":"Always","vxlanMode":"Always"}`,
		`{"failsafeInboundHostPorts":[{"protocol":"x","port":0,"net":"1"}],"routeRefreshInterval":"1h","interfaceExclude":"/[/","kubeNodePortRanges":["1:0"]}`,
		`{"controllers":{"node":{"hostEndpoint":{"autoCreate":"Enabled","templates":[{"generateName":"A","interfaceCIDRs":["x"],"labels":{"-":"-"}}]}}}}`,
		`{"reservedCIDRs":["10.0.0.1"],"nets":["fd00::1/64"],"maxBlocksPerHost":-1,"ipCooldownSeconds":9999,"stagedAction":"Delete"}`,
	}
}

// FuzzKinds: whatever can be read as an object, its check ends, and what it finds names a field and says something.
func FuzzKinds(f *testing.F) {
	for _, spec := range seeds() {
		f.Add([]byte(`{"metadata":{"name":"x"},"spec":` + spec + `}`))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		for name, found := range map[string]func() field.ErrorList{
			"NetworkPolicy":                 checkRaw(raw, NetworkPolicy),
			"GlobalNetworkPolicy":           checkRaw(raw, GlobalNetworkPolicy),
			"StagedNetworkPolicy":           checkRaw(raw, StagedNetworkPolicy),
			"StagedGlobalNetworkPolicy":     checkRaw(raw, StagedGlobalNetworkPolicy),
			"StagedKubernetesNetworkPolicy": checkRaw(raw, StagedKubernetesNetworkPolicy),
			"Tier":                          checkRaw(raw, Tier),
			"NetworkSet":                    checkRaw(raw, NetworkSet),
			"GlobalNetworkSet":              checkRaw(raw, GlobalNetworkSet),
			"HostEndpoint":                  checkRaw(raw, HostEndpoint),
			"IPPool":                        checkRaw(raw, IPPool),
			"IPReservation":                 checkRaw(raw, IPReservation),
			"IPAMConfiguration":             checkRaw(raw, IPAMConfiguration),
			"FelixConfiguration":            checkRaw(raw, FelixConfiguration),
			"KubeControllersConfiguration":  checkRaw(raw, KubeControllersConfiguration),
		} {
			for _, err := range found() {
				if !strings.HasPrefix(err.Field, "spec") && !strings.HasPrefix(err.Field, "metadata") || err.Error() == "" {
					t.Errorf("%s: field %q, message %q", name, err.Field, err.Error())
				}
			}
		}
	})
}

// checkRaw checks what can be read of an object, as the API server and programs read it.
func checkRaw[T any](raw []byte, check func(*T) field.ErrorList) func() field.ErrorList {
	return func() field.ErrorList {
		obj := new(T)
		if json.Unmarshal(raw, obj) != nil {
			return nil
		}
		return check(obj)
	}
}

// FuzzValues: what is read of a text is what stands in it, and reads the same again.
func FuzzValues(f *testing.F) {
	for _, text := range []string{"80", "80:90", "90:80", "http", "TCP", "udplite", "17", "017", "10.0.0.0/8", "10.0.0.1/8", "::ffff:1.2.3.4", "fe80::1%eth0", "65536", "1:", ":"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := ParsePort(intstr.FromString(text)); err == nil && p.Name == "" && (p.First < 1 || p.First > p.Last || p.Last > 65535) {
			t.Errorf("port %q is %+v", text, p)
		}
		if number, err := ParseProtocol(intstr.FromString(text)); err == nil && (number < 1 || number > 255) {
			t.Errorf("protocol %q is %d", text, number)
		}
		net, err := ParseNet(text)
		if net.IsValid() && (net != net.Masked() || net.Addr().Is4In6()) {
			t.Errorf("net %q is %s", text, net)
		}
		if again, _ := ParseNet(net.String()); err == nil && again != net {
			t.Errorf("net %q is %s, and that %s", text, net, again)
		}
		if FieldAdvice("NetworkPolicy", text) == "" {
			t.Errorf("no advice on the field %q", text)
		}
	})
}
