package plugin

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/plugins/pkg/ns"

	"github.com/manul-net/manul/cni/conflist"
	"github.com/manul-net/manul/test/cniplugins"
)

// The list that the agent installs on a node, with host ports and sysctls, through the library that runtimes use.
func TestHostPortsAndSysctls(t *testing.T) {
	w := newWorld(t)
	w.serve()
	plugins := cniplugins.Build(t, "meta/portmap", "meta/tuning")
	data, err := conflist.Render(conflist.Options{Socket: w.socket, StateDir: w.dir, Sysctls: map[string]string{"net.core.somaxconn": "777"}})
	w.ok(err)
	file := filepath.Join(w.dir, conflist.FileName)
	w.ok(os.WriteFile(file, data, 0o600))
	list, err := libcni.ConfListFromFile(file)
	w.ok(err)
	cni := libcni.NewCNIConfigWithCacheDir([]string{filepath.Dir(os.Getenv(pluginEnv)), plugins}, filepath.Join(w.dir, "cache"), nil)
	p := w.pod("c1", "web")
	rt := &libcni.RuntimeConf{
		ContainerID: p.id, NetNS: p.netns.Path(), IfName: "eth0",
		Args:           [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "default"}, {"K8S_POD_NAME", p.name}},
		CapabilityArgs: map[string]any{"portMappings": []map[string]any{{"hostPort": 8081, "containerPort": 80, "protocol": "tcp"}}},
	}
	call := func(step string, f func(context.Context) error) {
		t.Helper()
		if err := w.host.Do(func(ns.NetNS) error { return f(t.Context()) }); err != nil {
			t.Fatalf("%s: %v", step, err)
		}
	}
	call("ADD", func(ctx context.Context) error { _, err := cni.AddNetworkList(ctx, list, rt); return err })
	call("CHECK", func(ctx context.Context) error { return cni.CheckNetworkList(ctx, list, rt) })
	w.in(p.netns, func() {
		value, err := os.ReadFile("/proc/sys/net/core/somaxconn")
		w.ok(err)
		if got := strings.TrimSpace(string(value)); got != "777" {
			t.Errorf("net.core.somaxconn in the pod is %s, want 777", got)
		}
	})
	var listener net.Listener
	w.in(p.netns, func() {
		listener, err = new(net.ListenConfig).Listen(t.Context(), "tcp", ":80")
		w.ok(err)
	})
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "the pod")
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = listener.Close() })
	ask := func() (string, error) {
		var answer string
		err := w.host.Do(func(ns.NetNS) error {
			c, err := net.DialTimeout("tcp", hostIPv4+":8081", 3*time.Second)
			if err != nil {
				return err
			}
			text, err := io.ReadAll(c)
			answer = string(text)
			return errors.Join(err, c.Close())
		})
		return answer, err
	}
	if answer, err := ask(); answer != "the pod" || err != nil {
		t.Errorf("at the host port: %q, %v", answer, err)
	}
	call("DEL", func(ctx context.Context) error { return cni.DelNetworkList(ctx, list, rt) })
	if _, err := ask(); err == nil {
		t.Error("the host port is still open")
	}
	w.wantNothing()
}
