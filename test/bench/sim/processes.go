package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/rpc"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/manul-net/manul/controllers"
)

// The programs speak by net/rpc over unix sockets: each child serves, and calls the parent back.
const (
	envRole   = "MANUL_SIM_ROLE"
	envSocket = "MANUL_SIM_SOCKET"

	roleOperator, roleAgents = "operator", "agents"

	// startWithin is how long a child may take to call.
	startWithin = 30 * time.Second
)

// None is the argument or answer of a call that has none.
type None struct{}

func isChild() bool { return os.Getenv(envRole) != "" }

// child is the main function of a child. It ends with its parent.
func child() int {
	if err := serveParent(os.Getenv(envRole), os.Getenv(envSocket)); err != nil {
		fmt.Fprintf(os.Stderr, "sim, %s: %v\n", os.Getenv(envRole), err)
		return 1
	}
	return 0
}

func serveParent(role, socket string) error {
	serving, err := new(net.Dialer).DialContext(context.Background(), "unix", socket)
	if err != nil {
		return fmt.Errorf("calling the parent: %w", err)
	}
	calling, err := new(net.Dialer).DialContext(context.Background(), "unix", socket)
	if err != nil {
		return fmt.Errorf("calling the parent: %w", err)
	}
	parent := rpc.NewClient(calling)
	server := rpc.NewServer()
	switch role {
	case roleOperator:
		go controllers.SaveMemory(context.Background())
		err = server.RegisterName(role, newOperator(parent))
	case roleAgents:
		err = server.RegisterName(role, newAgents(parent))
	default:
		err = fmt.Errorf("there is no role %q", role)
	}
	if err != nil {
		return err
	}
	server.ServeConn(serving) // until the parent ends
	return nil
}

// process is a child.
type process struct {
	role   string
	cmd    *exec.Cmd
	client *rpc.Client
	exited chan struct{}
	killed atomic.Bool
}

// start starts a child, which may call services back.
func start(ctx context.Context, dir, role string, services any) (*process, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	socket := filepath.Join(dir, role+strconv.FormatInt(time.Now().UnixNano(), 36))
	listener, err := new(net.ListenConfig).Listen(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("listening for the %s: %w", role, err)
	}
	defer func() { _ = listener.Close() }()
	p := &process{role: role, exited: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, program)
	p.cmd.Env = append(os.Environ(), envRole+"="+role, envSocket+"="+socket)
	p.cmd.Stdout, p.cmd.Stderr = os.Stderr, os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	// The signal is for the end of the thread that started it: that must be none that ends before.
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		started <- p.cmd.Start()
		_ = p.cmd.Wait() // how it ended shows in the calls that fail
		close(p.exited)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting the %s: %w", role, err)
	}
	connections := make(chan net.Conn, 2)
	go func() {
		defer close(connections)
		for range 2 {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			connections <- c
		}
	}()
	var both []net.Conn
	for len(both) < 2 {
		select {
		case c, ok := <-connections:
			if !ok {
				return nil, fmt.Errorf("the %s did not call", role)
			}
			both = append(both, c)
		case <-p.exited:
			return nil, fmt.Errorf("the %s ended at once", role)
		case <-time.After(startWithin):
			p.kill()
			return nil, fmt.Errorf("the %s did not call within %s", role, startWithin)
		}
	}
	server := rpc.NewServer()
	if err := server.RegisterName("parent", services); err != nil {
		p.kill()
		return nil, err
	}
	go server.ServeConn(both[1])
	p.client = rpc.NewClient(both[0])
	return p, nil
}

// call calls a method of the child.
func (p *process) call(ctx context.Context, method string, in, out any) error {
	call := p.client.Go(p.role+"."+method, in, out, make(chan *rpc.Call, 1))
	select {
	case <-call.Done:
		if call.Error != nil {
			return fmt.Errorf("%s, %s: %w", p.role, method, call.Error)
		}
		return nil
	case <-p.exited:
		return fmt.Errorf("%s, %s: the process has ended", p.role, method)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// kill ends the child without a word, and waits for that.
func (p *process) kill() {
	p.killed.Store(true)
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		fmt.Fprintln(os.Stderr, "sim: ending the", p.role+":", err)
	}
	<-p.exited
}

// Memory of a process, bytes.
type Memory struct {
	// Heap after a collection; Resident as the kernel counts; Peak of that.
	Heap, Resident, Peak uint64
	// Stacks of goroutines, and what the collector keeps free for what comes.
	Stacks, Free uint64
	Goroutines   int
	// CPU is the processor time used since the process began, in the kernel too.
	CPU time.Duration
}

// memory of this process.
func memory() (Memory, error) {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	m := Memory{Heap: s.HeapAlloc, Stacks: s.StackInuse, Free: s.HeapIdle - s.HeapReleased, Goroutines: runtime.NumGoroutine()}
	var err error
	if m.CPU, err = processorTime(); err != nil {
		return m, err
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return m, fmt.Errorf("reading what the kernel counts: %w", err)
	}
	for line := range strings.SplitSeq(string(status), "\n") {
		field, rest, _ := strings.Cut(line, ":")
		number, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
		kib, err := strconv.ParseUint(number, 10, 64)
		switch {
		case err != nil:
		case field == "VmRSS":
			m.Resident = kib << 10
		case field == "VmHWM":
			m.Peak = kib << 10
		}
	}
	return m, nil
}
