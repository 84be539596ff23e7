package nodeinit

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// host runs a supervisor behind its socket, as Run does, and returns a client for it.
func host(t *testing.T, components ...Component) *Client {
	t.Helper()
	dir := t.TempDir()
	for i := range components {
		components[i].Log = filepath.Join(dir, components[i].Name+".log")
	}
	s := newSupervisor(components)
	// The test's context ends before its clean-up, which needs the reaper.
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	reaped := make(chan struct{})
	go func() { s.reap(ctx); close(reaped) }()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "unix", filepath.Join(dir, controlName))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler(s), ReadHeaderTimeout: time.Second}
	go func() { _ = server.Serve(listener) }()
	client, err := NewClient(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, c := range components {
			if err := s.stop(ctx, c.Name); err != nil {
				t.Error(err)
			}
		}
		cancel()
		<-reaped
		_ = server.Close()
	})
	return client
}

func status(t *testing.T, c *Client, name string) Status {
	t.Helper()
	list, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no component %s", name)
	return Status{}
}

// eventually waits until a component is as wanted.
func eventually(t *testing.T, c *Client, name, what string, wanted func(Status) bool) Status {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		s := status(t, c, name)
		if wanted(s) {
			return s
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: still %+v", what, s)
		}
	}
}

func TestStartStop(t *testing.T) {
	c := host(t, Component{Name: "a", Args: []string{"/bin/sleep", "1000"}})
	if got := status(t, c, "a").State; got != Stopped {
		t.Errorf("before the start: %s", got)
	}
	if err := c.Start(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	first := status(t, c, "a")
	if first.State != Running || first.PID == 0 {
		t.Errorf("after the start: %+v", first)
	}
	if err := c.Start(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if again := status(t, c, "a"); again.PID != first.PID {
		t.Errorf("a second start made process %d of %d", again.PID, first.PID)
	}
	if err := c.Stop(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if got := status(t, c, "a"); got.State != Stopped || got.LastExit != "signal: terminated" || got.Restarts != 0 {
		t.Errorf("after the stop: %+v", got)
	}
	if err := unix.Kill(first.PID, 0); err == nil {
		t.Errorf("process %d is still there after the stop", first.PID)
	}
}

func TestKilledStartsAgain(t *testing.T) {
	c := host(t, Component{Name: "a", Args: []string{"/bin/sleep", "1000"}})
	if err := c.Start(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	first := status(t, c, "a")
	if err := c.Kill(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	second := eventually(t, c, "a", "starting again", func(s Status) bool { return s.State == Running && s.Restarts == 1 })
	if second.PID == first.PID || second.LastExit != "signal: killed" {
		t.Errorf("after the kill: %+v", second)
	}
}

func TestStopWhileWaiting(t *testing.T) {
	c := host(t, Component{Name: "a", Args: []string{"/bin/sh", "-c", "exit 3"}})
	if err := c.Start(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	eventually(t, c, "a", "waiting to start again", func(s Status) bool { return s.State == Waiting && s.LastExit == "exit status 3" })
	if err := c.Stop(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if got := status(t, c, "a"); got.State != Stopped {
		t.Errorf("after the stop: %+v", got)
	}
}

func TestUnknownComponent(t *testing.T) {
	c := host(t)
	err := c.Stop(t.Context(), "nonesuch")
	if err == nil || !strings.Contains(err.Error(), "no component nonesuch") {
		t.Errorf("got %v", err)
	}
}

func TestProgramMissing(t *testing.T) {
	c := host(t, Component{Name: "a", Args: []string{"/does/not/exist"}})
	err := c.Start(t.Context(), "a")
	if err == nil || !strings.Contains(err.Error(), "/does/not/exist") {
		t.Errorf("got %v", err)
	}
}

func TestPauseGrowsToItsLimit(t *testing.T) {
	s := newSupervisor([]Component{{Name: "a"}})
	c := s.components[0]
	for range 20 {
		s.startLater(c, 0)
		c.timer.Stop()
	}
	if c.pause != lastPause {
		t.Errorf("pause is %s after 20 quick ends, want %s", c.pause, lastPause)
	}
	s.startLater(c, settled)
	c.timer.Stop()
	if c.pause != 2*firstPause {
		t.Errorf("pause is %s after a long run, want %s", c.pause, 2*firstPause)
	}
}

func TestSocketPathTooLong(t *testing.T) {
	_, err := NewClient("/" + strings.Repeat("x", 100))
	if err == nil || !strings.Contains(err.Error(), "MANUL_CACHE") {
		t.Errorf("got %v", err)
	}
}

func TestConfigReadsBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	want := Config{Hostname: "worker1", Components: []Component{{Name: "a", Args: []string{"x"}, Manual: true}}}
	if err := want.Write(path); err != nil {
		t.Fatal(err)
	}
	got, err := ReadConfig(path)
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}
