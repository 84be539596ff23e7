package nodeinit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	firstPause = 250 * time.Millisecond // before a component that ended starts again
	lastPause  = 10 * time.Second       // the pause doubles up to this
	settled    = 30 * time.Second       // running this long resets the pause
	stopWait   = 10 * time.Second       // between the polite signal and the other one
)

// supervisor runs the components of a host. Children are reaped in one place for all, because the first process of a host
// also gets the orphans (container shims above all); nothing here may wait for a process of its own.
type supervisor struct {
	mu         sync.Mutex
	components []*component
	byPID      map[int]*component
}

type component struct {
	Component
	status  Status
	wanted  bool
	process *os.Process
	pause   time.Duration
	timer   *time.Timer
	ended   chan struct{} // closed when the running process has ended
}

func newSupervisor(list []Component) *supervisor {
	s := &supervisor{byPID: map[int]*component{}}
	for _, c := range list {
		s.components = append(s.components, &component{
			Component: c, pause: firstPause, status: Status{Name: c.Name, State: Stopped, Since: time.Now()},
		})
	}
	return s
}

// reap takes up ended processes until ctx ends.
func (s *supervisor) reap(ctx context.Context) {
	child := make(chan os.Signal, 1)
	signal.Notify(child, unix.SIGCHLD)
	defer signal.Stop(child)
	for {
		s.reapAll()
		select {
		case <-child:
		case <-ctx.Done():
			return
		}
	}
}

func (s *supervisor) reapAll() {
	for {
		var status unix.WaitStatus
		// The lock makes a start and the entry of its number in the table one step.
		s.mu.Lock()
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if err == nil && pid > 0 {
			if c := s.byPID[pid]; c != nil {
				delete(s.byPID, pid)
				s.exited(c, status)
			}
		}
		s.mu.Unlock()
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
	}
}

// exited is called with the lock held.
func (s *supervisor) exited(c *component, status unix.WaitStatus) {
	ran := time.Since(c.status.Since)
	c.status.PID = 0
	c.status.LastExit = exitText(status)
	c.status.Since = time.Now()
	_ = c.process.Release()
	c.process = nil
	close(c.ended)
	c.status.State = Stopped
	if c.wanted {
		c.status.Restarts++
		s.startLater(c, ran)
	}
}

// startLater is called with the lock held, after a component ran for some time and ended by itself.
func (s *supervisor) startLater(c *component, ran time.Duration) {
	if ran >= settled {
		c.pause = firstPause
	}
	c.status.State = Waiting
	c.timer = time.AfterFunc(c.pause, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if c.wanted && c.process == nil {
			if err := s.run(c); err != nil {
				c.status.LastExit = err.Error()
				s.startLater(c, 0)
			}
		}
	})
	c.pause = min(2*c.pause, lastPause)
}

func exitText(status unix.WaitStatus) string {
	if status.Signaled() {
		return "signal: " + status.Signal().String()
	}
	return fmt.Sprintf("exit status %d", status.ExitStatus())
}

// run is called with the lock held.
func (s *supervisor) run(c *component) error {
	in, err := os.Open(os.DevNull)
	if err != nil {
		return fmt.Errorf("starting %s: %w", c.Name, err)
	}
	defer func() { _ = in.Close() }()
	log, err := os.OpenFile(c.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("starting %s: %w", c.Name, err)
	}
	defer func() { _ = log.Close() }()
	process, err := os.StartProcess(c.Args[0], c.Args, &os.ProcAttr{Env: os.Environ(), Files: []*os.File{in, log, log}})
	if err != nil {
		return fmt.Errorf("starting %s: %w", c.Name, err)
	}
	c.process = process
	c.ended = make(chan struct{})
	c.status.PID = process.Pid
	c.status.State = Running
	c.status.Since = time.Now()
	s.byPID[process.Pid] = c
	return nil
}

func (s *supervisor) find(name string) (*component, error) {
	i := slices.IndexFunc(s.components, func(c *component) bool { return c.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("no component %s on this host", name)
	}
	return s.components[i], nil
}

// start starts a component; one that runs stays as it is.
func (s *supervisor) start(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.find(name)
	if err != nil {
		return err
	}
	c.wanted = true
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.process != nil {
		return nil
	}
	c.pause = firstPause
	return s.run(c)
}

// stop ends a component, which stays down; it returns when the process has ended.
func (s *supervisor) stop(ctx context.Context, name string) error {
	s.mu.Lock()
	c, err := s.find(name)
	if err != nil {
		s.mu.Unlock()
		return err
	}
	c.wanted = false
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.process == nil {
		c.status.State = Stopped
		s.mu.Unlock()
		return nil
	}
	ended := c.ended
	err = c.process.Signal(unix.SIGTERM)
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("stopping %s: %w", name, err)
	}
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stopping %s: %w", name, context.Cause(ctx))
	case <-time.After(stopWait):
	}
	return s.kill(ctx, name)
}

// kill ends a component the hard way; unless it was stopped, it starts again.
func (s *supervisor) kill(ctx context.Context, name string) error {
	s.mu.Lock()
	c, err := s.find(name)
	if err != nil {
		s.mu.Unlock()
		return err
	}
	if c.process == nil {
		s.mu.Unlock()
		return nil
	}
	ended := c.ended
	err = c.process.Kill()
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("killing %s: %w", name, err)
	}
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("killing %s: %w", name, context.Cause(ctx))
	}
}

func (s *supervisor) list() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Status, 0, len(s.components))
	for _, c := range s.components {
		list = append(list, c.status)
	}
	return list
}
