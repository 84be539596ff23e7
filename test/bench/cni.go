package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/manul-net/manul/api/v1alpha1"
)

// config is the network configuration that a runtime would hand to the plugin.
const config = `{"cniVersion":"1.1.0","name":"manul","type":"manul"}`

// cni binds pods to the node, whose kubelet does not run, and does a runtime's part for them: a network namespace, the
// plugin's ADD, the plugin's DEL. It prints how long the plugin took, its start as a process included.
func (b *bench) cni(ctx context.Context) error {
	for i := range b.n {
		pod := b.pod(fmt.Sprintf("cni-%d", i))
		if err := b.client.Create(ctx, pod); err != nil {
			return fmt.Errorf("creating a pod: %w", err)
		}
		if err := b.prepared(ctx, pod); err != nil {
			return err
		}
		if err := b.addAndDelete(ctx, pod); err != nil {
			return err
		}
		if err := b.client.Delete(ctx, pod, client.GracePeriodSeconds(0)); err != nil {
			return fmt.Errorf("deleting a pod: %w", err)
		}
	}
	return nil
}

// prepared waits until the node has given the pod an address.
func (b *bench) prepared(ctx context.Context, pod *corev1.Pod) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		var state v1alpha1.NodeState
		if err := b.client.Get(ctx, client.ObjectKey{Name: b.node}, &state); err != nil {
			return fmt.Errorf("reading the node's state: %w", err)
		}
		for _, e := range state.Status.Endpoints {
			if e.UID == pod.UID && len(e.Addresses) > 0 {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func (b *bench) addAndDelete(ctx context.Context, pod *corev1.Pod) (err error) {
	name := "bench-" + pod.Name
	if out, err := exec.CommandContext(ctx, "ip", "netns", "add", name).CombinedOutput(); err != nil {
		return fmt.Errorf("making a network namespace: %w: %s", err, out)
	}
	defer func() {
		if out, e := exec.CommandContext(ctx, "ip", "netns", "del", name).CombinedOutput(); e != nil && err == nil {
			err = fmt.Errorf("removing a network namespace: %w: %s", e, out)
		}
	}()
	for _, command := range []string{"ADD", "DEL"} {
		cmd := exec.CommandContext(ctx, "/opt/cni/bin/manul")
		cmd.Env = append(os.Environ(), "CNI_COMMAND="+command, "CNI_CONTAINERID="+name, "CNI_NETNS=/run/netns/"+name, "CNI_IFNAME=eth0", "CNI_PATH=/opt/cni/bin",
			fmt.Sprintf("CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=%s;K8S_POD_NAME=%s;K8S_POD_UID=%s;K8S_POD_INFRA_CONTAINER_ID=%s", pod.Namespace, pod.Name, pod.UID, name))
		cmd.Stdin = bytes.NewReader([]byte(config))
		start := time.Now()
		out, err := cmd.CombinedOutput()
		took := time.Since(start)
		if err != nil {
			return fmt.Errorf("%s: %w: %s", command, err, out)
		}
		if err := b.out.Encode(length{Name: command, Took: took.Nanoseconds()}); err != nil {
			return err
		}
	}
	return nil
}
