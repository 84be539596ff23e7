package cluster

import (
	"fmt"
	"path/filepath"

	"github.com/manul-net/manul/test/cluster/binaries"
	"github.com/manul-net/manul/test/cluster/nodeinit"
)

// Names of the components, as Stop, Start, Kill and LogFile take them.
const (
	Etcd              = "etcd"
	APIServerName     = "apiserver"
	ControllerManager = "controller-manager"
	Scheduler         = "scheduler"
	Containerd        = "containerd"
	Kubelet           = "kubelet"
	KubeProxy         = "kube-proxy"
	// Web answers on host1, the machine outside: /hostname says who answers, /clientip who asked.
	Web = "web"
	// NodeAgent is the node agent of the network under test on host1, where no kubelet starts one. It needs its program and
	// its kubeconfig put there, and to be started.
	NodeAgent = "node-agent"
	// Router is BIRD on host1. It needs its configuration put there, and to be started.
	Router = "router"
)

// Where the node agent of host1 has its program and its credentials.
const (
	NodeAgentProgram    = "/usr/local/bin/manul-node"
	NodeAgentKubeconfig = "/etc/manul/kubeconfig"
)

// Where the router of host1 has its configuration and its control socket, which birdc -s asks.
const (
	routerConfig = "/etc/bird/cluster.conf"
	routerSocket = "/tmp/bird.ctl"
)

const (
	containerdConfig = "/etc/containerd/config.toml"
	kubeletConfig    = "/var/lib/kubelet/config.yaml"
	kubeProxyConfig  = "/var/lib/kube-proxy/config.yaml"
)

// hostConfig is what the first process of a host is told.
func hostConfig(o Options, p paths, bin binaries.Set, h Host) nodeinit.Config {
	c := nodeinit.Config{
		Hostname: h.Name,
		Dir:      p.host(h.Name),
		Shared:   []string{filepath.Join(p.cache, "bin"), p.dir},
		Private: []string{
			"/etc/cni/net.d", "/opt/cni/bin", "/tmp", "/var/lib/cni", "/var/lib/containerd", "/var/lib/etcd", "/var/lib/kubelet",
			"/var/lib/kube-proxy", "/var/lib/manul", "/var/log/containers", "/var/log/pods", "/etc/containerd",
		},
		Cgroup: p.cgroup(h.Name),
		Files:  map[string]string{},
		Sysctls: map[string]string{
			"net/ipv4/ip_forward":              "1",
			"net/ipv6/conf/all/forwarding":     "1",
			"net/ipv4/conf/all/rp_filter":      "0",
			"net/ipv4/ping_group_range":        "0 2147483647",
			"net/ipv4/conf/default/arp_filter": "0",
		},
		// The kubelet sets these, and they are the machine's, not the host's: it finds them set already.
		Tunables: map[string]string{
			"vm/overcommit_memory":      "1",
			"vm/panic_on_oom":           "0",
			"kernel/panic":              "10",
			"kernel/panic_on_oops":      "1",
			"kernel/keys/root_maxkeys":  "1000000",
			"kernel/keys/root_maxbytes": "25000000",
		},
	}
	add := func(name string, manual bool, args ...string) {
		c.Components = append(c.Components, nodeinit.Component{Name: name, Args: args, Log: p.log(h.Name, name), Manual: manual})
	}
	if h.ControlPlane {
		add(Etcd, false, etcdArgs(o, p, bin, h)...)
		add(APIServerName, false, apiServerArgs(p, bin, h)...)
		add(ControllerManager, false, controllerManagerArgs(p, bin)...)
		add(Scheduler, false, bin.Path(binaries.Scheduler), "--kubeconfig="+p.kubeconfig("scheduler"), "--leader-elect=false")
	}
	if h.Node {
		c.Files[containerdConfig] = containerdTOML()
		c.Files[kubeletConfig] = kubeletYAML(p, h)
		c.Files[kubeProxyConfig] = kubeProxyYAML(o, p, h)
		add(Containerd, false, "/usr/bin/containerd", "--config", containerdConfig)
		// The kubelet starts when the images are there, and kube-proxy when the kubelet has registered its node.
		add(Kubelet, true, bin.Path(binaries.Kubelet), "--config", kubeletConfig, "--kubeconfig", p.kubeconfig("kubelet-"+h.Name),
			"--hostname-override", h.Name, "--node-ip", h.Address.String(), "-v=2")
		add(KubeProxy, true, bin.Path(binaries.KubeProxy), "--config", kubeProxyConfig)
	} else {
		add(Web, false, bin.Path(binaries.Agnhost), "netexec", "--http-port=80", "--udp-port=80")
		add(NodeAgent, true, NodeAgentProgram, "--standalone", "--node="+h.Name, "--kubeconfig="+NodeAgentKubeconfig)
		add(Router, true, "/usr/sbin/bird", "-f", "-c", routerConfig, "-s", routerSocket)
	}
	return c
}

// etcdArgs has etcd listen as kubeadm does: on the host's address, for clients with certificates. The API server asks it on
// the loopback address.
func etcdArgs(o Options, p paths, bin binaries.Set, h Host) []string {
	args := []string{
		bin.Path(binaries.Etcd), "--data-dir=/var/lib/etcd",
		"--listen-client-urls=http://127.0.0.1:2379,https://" + h.Address.String() + ":2379",
		"--advertise-client-urls=https://" + h.Address.String() + ":2379", "--listen-peer-urls=http://127.0.0.1:2380",
		"--cert-file=" + p.pki("etcd.crt"), "--key-file=" + p.pki("etcd.key"), "--trusted-ca-file=" + p.pki("ca.crt"), "--client-cert-auth",
	}
	if o.NoFsync {
		args = append(args, "--unsafe-no-fsync")
	}
	return args
}

func apiServerArgs(p paths, bin binaries.Set, h Host) []string {
	return []string{
		bin.Path(binaries.APIServer), "--etcd-servers=http://127.0.0.1:2379",
		"--advertise-address=" + h.Address.String(), "--secure-port=6443", "--service-cluster-ip-range=" + ServiceCIDR,
		"--client-ca-file=" + p.pki("ca.crt"),
		"--tls-cert-file=" + p.pki("apiserver.crt"), "--tls-private-key-file=" + p.pki("apiserver.key"),
		"--service-account-key-file=" + p.pki("service-account.key"),
		"--service-account-signing-key-file=" + p.pki("service-account.key"),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
		"--kubelet-client-certificate=" + p.pki("admin.crt"), "--kubelet-client-key=" + p.pki("admin.key"),
		"--kubelet-certificate-authority=" + p.pki("ca.crt"),
		// Otherwise exec and logs look for the node's name in DNS.
		"--kubelet-preferred-address-types=InternalIP",
		// Aggregated API servers: how the API server shows itself and its users to them.
		"--requestheader-client-ca-file=" + p.pki("front-proxy-ca.crt"), "--requestheader-allowed-names=front-proxy-client",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-username-headers=X-Remote-User",
		"--proxy-client-cert-file=" + p.pki("front-proxy-client.crt"), "--proxy-client-key-file=" + p.pki("front-proxy-client.key"),
	}
}

func controllerManagerArgs(p paths, bin binaries.Set) []string {
	return []string{
		bin.Path(binaries.ControllerManager), "--kubeconfig=" + p.kubeconfig("controller-manager"), "--leader-elect=false",
		"--service-account-private-key-file=" + p.pki("service-account.key"), "--root-ca-file=" + p.pki("ca.crt"),
		"--cluster-signing-cert-file=" + p.pki("ca.crt"), "--cluster-signing-key-file=" + p.pki("ca.key"),
		"--use-service-account-credentials", "--allocate-node-cidrs", "--cluster-cidr=" + PodCIDR,
		"--service-cluster-ip-range=" + ServiceCIDR,
	}
}

// containerdTOML leaves out AppArmor and the lowering of oom_score_adj, which need rights in the machine that hosts lack.
func containerdTOML() string {
	return fmt.Sprintf(`version = 2
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
  address = "/run/containerd/containerd.sock"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %q
  disable_apparmor = true
  restrict_oom_score_adj = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
`, PauseImage)
}

// kubeletYAML is for hosts whose cgroups and disk are the machine's: no cgroups per class of pods, no limits on all pods
// together, and no pod is evicted because the machine is full.
func kubeletYAML(p paths, h Host) string {
	config := fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: %[1]s}
authorization: {mode: Webhook}
tlsCertFile: %[2]s
tlsPrivateKeyFile: %[3]s
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
clusterDNS: [%[4]s]
clusterDomain: cluster.local
resolvConf: ""
cgroupDriver: cgroupfs
cgroupsPerQOS: false
enforceNodeAllocatable: []
failCgroupV1: false
failSwapOn: false
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 0%%, nodefs.available: 0%%, nodefs.inodesFree: 0%%, imagefs.available: 0%%, imagefs.inodesFree: 0%%}
maxPods: 250
registryPullQPS: 0
eventRecordQPS: 100
kubeAPIQPS: 200
kubeAPIBurst: 400
serializeImagePulls: false
shutdownGracePeriod: 0s
`, p.pki("ca.crt"), p.pki("kubelet-"+h.Name+".crt"), p.pki("kubelet-"+h.Name+".key"), DNSAddress)
	if h.ControlPlane {
		config += "registerWithTaints: [{key: node-role.kubernetes.io/control-plane, effect: NoSchedule}]\n"
	}
	return config
}

func kubeProxyYAML(o Options, p paths, h Host) string {
	return fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: %s}
mode: %s
clusterCIDR: %s
hostnameOverride: %s
# The table of connections is sized for the whole machine; a network namespace may not change it.
conntrack: {maxPerCore: 0}
`, p.kubeconfig("kube-proxy"), o.Proxy, PodCIDR, h.Name)
}
