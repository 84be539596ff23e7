package plugin

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/plugins/pkg/ns"

	"github.com/manul-net/manul/cni/conflist"
)

// The configuration that the agent installs, read and used by the library that runtimes use.
func TestWithTheRuntimesLibrary(t *testing.T) {
	w := newWorld(t)
	w.serve()
	data, err := conflist.Render(conflist.Options{Socket: w.socket, StateDir: w.dir, MTU: 1300, WithoutPortMap: true})
	w.ok(err)
	file := filepath.Join(w.dir, conflist.FileName)
	w.ok(os.WriteFile(file, data, 0o600))
	list, err := libcni.ConfListFromFile(file)
	w.ok(err)
	if list.CNIVersion != "1.1.0" {
		t.Errorf("a runtime of CNI 1.1 uses version %s", list.CNIVersion)
	}
	cni := libcni.NewCNIConfigWithCacheDir([]string{filepath.Dir(os.Getenv(pluginEnv))}, filepath.Join(w.dir, "cache"), nil)
	p := w.pod("c1", "web")
	rt := &libcni.RuntimeConf{
		ContainerID: p.id, NetNS: p.netns.Path(), IfName: "eth0",
		Args: [][2]string{
			{"IgnoreUnknown", "1"},
			{"K8S_POD_NAMESPACE", "default"},
			{"K8S_POD_NAME", p.name},
			{"K8S_POD_INFRA_CONTAINER_ID", p.id},
		},
		CapabilityArgs: map[string]any{"portMappings": []any{}},
	}
	onHost := func(step string, f func(context.Context) error) {
		t.Helper()
		if err := w.host.Do(func(ns.NetNS) error { return f(t.Context()) }); err != nil {
			t.Fatalf("%s: %v", step, err)
		}
	}
	onHost("validate", func(ctx context.Context) error { _, err := cni.ValidateNetworkList(ctx, list); return err })
	onHost("STATUS", func(ctx context.Context) error { return cni.GetStatusNetworkList(ctx, list) })
	onHost("ADD", func(ctx context.Context) error { _, err := cni.AddNetworkList(ctx, list, rt); return err })
	onHost("CHECK", func(ctx context.Context) error { return cni.CheckNetworkList(ctx, list, rt) })
	onHost("GC", func(ctx context.Context) error {
		return cni.GCNetworkList(ctx, list, &libcni.GCArgs{ValidAttachments: []types.GCAttachment{{ContainerID: p.id, IfName: "eth0"}}})
	})
	onHost("CHECK after GC", func(ctx context.Context) error { return cni.CheckNetworkList(ctx, list, rt) })
	onHost("DEL", func(ctx context.Context) error { return cni.DelNetworkList(ctx, list, rt) })
	onHost("DEL again", func(ctx context.Context) error { return cni.DelNetworkList(ctx, list, rt) })
	w.wantNothing()

	w.stop()
	onHost("STATUS without agent", func(ctx context.Context) error {
		if err := cni.GetStatusNetworkList(ctx, list); err == nil {
			return errors.New("got no error")
		}
		return nil
	})
}
