package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/manul-net/manul/test/e2e/lab"
)

// The limits of docs/guide/manifests/limits.yaml, bits per second and connections, and how much is sent to see them.
const (
	limitedEgress      = 20_000_000
	limitedConnections = 100
	sentBytes          = 8 << 20
	// limitedPatience is for all that is sent, on a slow machine.
	limitedPatience = time.Minute
)

// limits applies the guide's example, and beside it the same pod without annotations, to which all is compared. What is sent comes from another
// node than the pods': their own is not limited.
func limits(t *testing.T, c *lab.Cluster) {
	ctx := t.Context()
	example, err := os.ReadFile(filepath.Join(c.Project, "docs", "guide", "manifests", "limits.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	free := strings.Replace(string(example), "name: limited", "name: free", 1)
	begin, end := strings.Index(free, "  annotations:"), strings.Index(free, "spec:")
	free = free[:begin] + free[end:]
	place := func(manifest string) string {
		return strings.Replace(manifest, "spec:\n", "spec:\n  nodeName: worker1\n", 1)
	}
	t.Cleanup(func() {
		if _, err := c.Kubectl(context.WithoutCancel(ctx), "delete", "pod", "limited", "free", "--ignore-not-found", "--grace-period=1"); err != nil {
			t.Error(err)
		}
	})
	if err := c.Apply(ctx, place(string(example))+"---\n"+place(free)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Kubectl(ctx, "wait", "pod/limited", "pod/free", "--for=condition=Ready", "--timeout=180s"); err != nil {
		t.Fatal(err)
	}
	at := map[string]string{}
	for _, pod := range []string{"limited", "free"} {
		ip, err := c.Kubectl(ctx, "get", "pod", pod, "-o", "jsonpath={.status.podIP}")
		if err != nil {
			t.Fatal(err)
		}
		at[pod] = net.JoinHostPort(strings.TrimSpace(ip), "8080")
	}
	t.Run("Bandwidth", func(t *testing.T) {
		// A machine that does much else may need several attempts.
		var unlimited float64
		if err := lab.Eventually(ctx, limitedPatience, func(ctx context.Context) (err error) {
			if unlimited, err = echoPace(ctx, c, at["free"]); err == nil && unlimited < 4*limitedEgress {
				err = fmt.Errorf("without a limit %.0f bit/s pass: too few to tell whether one of %d is in force", unlimited, limitedEgress)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		// The limits come with the interface, a moment after the pod.
		if err := lab.Eventually(ctx, limitedPatience, func(ctx context.Context) error {
			pace, err := echoPace(ctx, c, at["limited"])
			if err == nil && (pace < limitedEgress/2 || pace > limitedEgress*2) {
				err = fmt.Errorf("with a limit of %d bit/s pass %.0f, and without one %.0f", limitedEgress, pace, unlimited)
			}
			return err
		}); err != nil {
			t.Error(err)
		}
	})
	t.Run("Connections", func(t *testing.T) {
		for pod, want := range map[string]int{"limited": limitedConnections, "free": limitedConnections + 1} {
			if got := openConnections(ctx, t, c, at[pod], limitedConnections+1); got != want {
				t.Errorf("%s: %d connections are open of %d, want %d", pod, got, limitedConnections+1, want)
			}
		}
	})
}

// echoPace sends bytes to a pod that echoes them, and tells how many bits come back in a second.
func echoPace(ctx context.Context, c *lab.Cluster, at string) (float64, error) {
	conn, err := c.Dialer("worker2")(ctx, "tcp", at)
	if err != nil {
		return 0, fmt.Errorf("connecting to %s: %w", at, err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(limitedPatience)); err != nil {
		return 0, err
	}
	began := time.Now()
	sent := make(chan error, 1)
	go func() {
		_, err := conn.Write(make([]byte, sentBytes))
		sent <- err
	}()
	n, err := io.CopyN(io.Discard, conn, sentBytes)
	took := time.Since(began)
	if err := errors.Join(err, <-sent); err != nil {
		return 0, fmt.Errorf("%d of %d bytes came back from %s within %v: %w", n, sentBytes, at, took, err)
	}
	return sentBytes * 8 / took.Seconds(), nil
}

// openConnections makes connections and tells how many are there at once.
func openConnections(ctx context.Context, t *testing.T, c *lab.Cluster, at string, count int) int {
	t.Helper()
	dial := c.Dialer("worker2")
	open := 0
	for range count {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		conn, err := dial(ctx, "tcp", at)
		cancel()
		if err != nil {
			continue
		}
		t.Cleanup(func() { _ = conn.Close() })
		open++
	}
	return open
}
