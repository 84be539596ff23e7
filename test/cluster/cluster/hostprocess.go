package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/test/cluster/nodeinit"
	"github.com/manul-net/manul/test/cluster/procfs"
)

// startHost starts the first process of a host. The process waits until it is on record: should this program end before,
// the process ends too.
func startHost(p paths, h Host, config nodeinit.Config) (err error) {
	dir := p.host(h.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("starting %s: %w", h.Name, err)
	}
	configPath := filepath.Join(dir, "config.json")
	if err := config.Write(configPath); err != nil {
		return fmt.Errorf("starting %s: %w", h.Name, err)
	}
	log, err := os.OpenFile(p.log(h.Name, "init"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("starting %s: %w", h.Name, err)
	}
	defer func() { _ = log.Close() }()
	waits, release, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("starting %s: %w", h.Name, err)
	}
	defer func() { _ = release.Close() }()
	defer func() { _ = waits.Close() }()
	// Not bound to a context: the host outlives this program.
	cmd := exec.Command(p.program(), "node-init", "prepare", configPath)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{waits} // becomes nodeinit.ReleaseFD
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUTS,
	}
	if err := inNamespace(p.namespace(h.Name), cmd.Start); err != nil {
		return fmt.Errorf("starting %s: %w", h.Name, err)
	}
	// Take it up when it ends, for programs that live longer than their cluster.
	go func() { _ = cmd.Wait() }()
	if err := record(p.process(h.Name), cmd.Process.Pid); err != nil {
		return fmt.Errorf("starting %s: %w", h.Name, err)
	}
	if _, err := release.Write([]byte{1}); err != nil {
		return fmt.Errorf("starting %s: releasing its first process: %w", h.Name, err)
	}
	return nil
}

func record(path string, pid int) error {
	process, err := procfs.Identify(pid)
	if err != nil {
		return err
	}
	data, err := json.Marshal(process)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".part", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".part", path)
}

// endHost kills the first process of a host, with which the kernel kills all others, and waits until it is gone.
func endHost(ctx context.Context, p paths, host string) error {
	process, err := readProcess(p.process(host))
	if errors.Is(err, os.ErrNotExist) || (err == nil && !process.Alive()) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("ending %s: %w", host, err)
	}
	// The descriptor holds on to this process, whatever its number comes to mean; it is checked again once held.
	fd, err := unix.PidfdOpen(process.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("ending %s: %w", host, err)
	}
	defer func() { _ = unix.Close(fd) }()
	if !process.Alive() {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("ending %s: %w", host, err)
	}
	return poll(ctx, host+" to end", func() error {
		if process.Alive() {
			return fmt.Errorf("process %d still runs", process.PID)
		}
		return nil
	})
}
