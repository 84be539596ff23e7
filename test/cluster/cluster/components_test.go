package cluster

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/manul-net/manul/test/cluster/binaries"
	"github.com/manul-net/manul/test/cluster/nodeinit"
)

func testConfig(t *testing.T, o Options, host int) nodeinit.Config {
	t.Helper()
	o.Cache = "/cache"
	o, err := o.WithDefaults()
	if err != nil {
		t.Fatal(err)
	}
	return hostConfig(o, newPaths(o), binaries.Set{}, hosts(o.Workers)[host])
}

func TestHostComponents(t *testing.T) {
	for host, want := range [][]string{
		{Etcd, APIServerName, ControllerManager, Scheduler, Containerd, Kubelet, KubeProxy},
		{Containerd, Kubelet, KubeProxy},
		{Containerd, Kubelet, KubeProxy},
		{Web, NodeAgent, Router},
	} {
		var got []string
		for _, c := range testConfig(t, Options{}, host).Components {
			got = append(got, c.Name)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("components of host %d (-want +got):\n%s", host, diff)
		}
	}
}

func TestFsyncUnlessRefused(t *testing.T) {
	for _, noFsync := range []bool{false, true} {
		args := testConfig(t, Options{NoFsync: noFsync}, 0).Components[0].Args
		if got := slices.Contains(args, "--unsafe-no-fsync"); got != noFsync {
			t.Errorf("NoFsync %t: etcd skips fsync: %t", noFsync, got)
		}
	}
}

func TestFilesAreValidYAML(t *testing.T) {
	for host := range 2 {
		c := testConfig(t, Options{Proxy: IPTables}, host)
		for _, path := range []string{kubeletConfig, kubeProxyConfig} {
			var content map[string]any
			if err := yaml.UnmarshalStrict([]byte(c.Files[path]), &content); err != nil {
				t.Errorf("%s of host %d: %v", path, host, err)
			}
			if path == kubeProxyConfig && content["mode"] != "iptables" {
				t.Errorf("mode of kube-proxy is %v, want iptables", content["mode"])
			}
			if _, tainted := content["registerWithTaints"]; path == kubeletConfig && tainted != (host == 0) {
				t.Errorf("host %d registers with taints: %t", host, tainted)
			}
		}
	}
	for doc := range strings.SplitSeq(dnsManifest(), "\n---\n") {
		var object map[string]any
		if err := yaml.UnmarshalStrict([]byte(doc), &object); err != nil {
			t.Errorf("manifest: %v\n%s", err, doc)
		}
	}
}
