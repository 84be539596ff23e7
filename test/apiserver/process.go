package apiserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// stopGrace is how long a program gets to end before it is killed.
const stopGrace = 10 * time.Second

// process is a program that this package started.
type process struct {
	name string
	log  string
	cmd  *exec.Cmd
	stop chan struct{} // closed to have it stopped
	done chan struct{} // closed when it has ended
	err  error         // why it ended; valid when done is closed
}

// startProcess starts a program that writes its output to name.log in dir. The program is killed when this process dies.
func startProcess(dir, name, path string, args ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(dir, name+".log"), stop: make(chan struct{}), done: make(chan struct{})}
	out, err := os.Create(p.log)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	p.cmd = exec.Command(path, args...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, out, out
	// Of its own process group, so that an interrupt at the terminal reaches only the test, which then stops it in order.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}

	started := make(chan error, 1)
	go func() {
		// The kernel sends Pdeathsig when the starting thread ends: this goroutine keeps its thread until the program has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer func() { _ = out.Close() }() // the program has its own descriptor
		err := p.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.wait()
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	return p, nil
}

// wait returns when the program has ended, and stops it when asked to.
func (p *process) wait() {
	ended := make(chan error, 1)
	go func() { ended <- p.cmd.Wait() }()
	defer close(p.done)
	select {
	case p.err = <-ended:
		return
	case <-p.stop:
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	timer := time.NewTimer(stopGrace)
	defer timer.Stop()
	select {
	case p.err = <-ended:
	case <-timer.C:
		_ = p.cmd.Process.Kill()
		p.err = <-ended
	}
}

// end stops the program and returns when it has ended. It must be called once.
func (p *process) end() {
	close(p.stop)
	<-p.done
}

// until calls ready until it returns nil. It gives up when ctx ends or the program does, with the end of its log.
func (p *process) until(ctx context.Context, ready func(context.Context) error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-p.done:
			return fmt.Errorf("waiting for %s: it ended: %w\n%s", p.name, errors.Join(p.err, err), tail(p.log))
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w: %w\n%s", p.name, ctx.Err(), err, tail(p.log))
		}
	}
}

// tail returns the end of a log.
func tail(path string) string {
	const most = 4096
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	if len(b) > most {
		b = b[len(b)-most:]
	}
	return string(b)
}
