package flow

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/test/netns"
)

// ends are the two threads between which something is carried, each in its network namespace. One keeps to the machine's first core
// and one to its second, and both wait in the kernel: where the scheduler or the runtime puts them would else be most of what is seen.
type ends struct {
	from, to *netns.NS
	work     chan func() // for the first thread
	threads  [2]int
	softirqs []int // the kernel's threads for softirqs
}

// Port is where the second namespace takes connections.
const Port = 8080

// socketWait bounds each wait for the other end.
const socketWait = 10 * time.Second

// newEnds starts the threads. The second runs until serve returns, which it must once unblock was called.
func newEnds(t testing.TB, from, to *netns.NS, serve, unblock func()) *ends {
	t.Helper()
	e := &ends{from: from, to: to, work: make(chan func()), softirqs: softirqThreads(t)}
	loop := func() {
		for work := range e.work {
			work()
		}
	}
	var ready [2]chan error
	done := make(chan struct{}, len(ready))
	for i, end := range []struct {
		in  *netns.NS
		run func()
	}{{from, loop}, {to, serve}} {
		ready[i] = make(chan error, 1)
		go func() {
			defer func() { done <- struct{}{} }()
			end.in.Do(func() {
				runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and nothing else has its core
				e.threads[i] = unix.Gettid()
				err := keepTo(i)
				ready[i] <- err
				if err == nil {
					end.run()
				}
			})
		}()
	}
	t.Cleanup(func() {
		close(e.work)
		unblock()
		for range ready {
			<-done
		}
	})
	for _, r := range ready {
		if err := <-r; err != nil {
			t.Fatalf("keeping a thread to a core: %v", err)
		}
	}
	return e
}

// turn runs work in the first thread and adds what it took to the reading that it returns.
func (e *ends) turn(t testing.TB, work func(from time.Time) (Reading, error)) Reading {
	t.Helper()
	used, packets := e.used(t), e.packets()
	var r Reading
	var err error
	done := make(chan struct{})
	e.work <- func() {
		defer close(done)
		from := time.Now()
		r, err = work(from)
		r.Seconds = time.Since(from).Seconds()
	}
	<-done
	if err != nil {
		t.Fatal(err)
	}
	r.Packets, r.CPU = e.packets()-packets, e.used(t)-used
	return r
}

// packets that both ends received so far.
func (e *ends) packets() uint64 {
	return e.from.Link("eth0").Attrs().Statistics.RxPackets + e.to.Link("eth0").Attrs().Statistics.RxPackets
}

// used is the time that both threads and those of softirqs have run so far, in seconds.
func (e *ends) used(t testing.TB) float64 {
	t.Helper()
	var sum float64
	for _, thread := range e.threads {
		// The clock of a thread's time, as clock_getcpuclockid(3) makes it.
		const ofThread, scheduled = 4, 2
		var at unix.Timespec
		if err := unix.ClockGettime(int32(^thread)<<3|ofThread|scheduled, &at); err != nil {
			t.Fatalf("reading the time of a thread: %v", err)
		}
		sum += float64(at.Nano()) / 1e9
	}
	for _, thread := range e.softirqs {
		text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(thread), "schedstat"))
		if err != nil {
			t.Fatal(err)
		}
		ran, err := strconv.ParseFloat(strings.Fields(string(text))[0], 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += ran / 1e9
	}
	return sum
}

// softirqThreads are the kernel's threads that do what softirqs leave.
func softirqThreads(t testing.TB) (threads []int) {
	t.Helper()
	found, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range found {
		if name, err := os.ReadFile(file); err == nil && strings.HasPrefix(string(name), "ksoftirqd/") {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
				threads = append(threads, pid)
			}
		}
	}
	return threads
}

// keepTo keeps the calling thread to one of the cores that the process may use.
func keepTo(number int) error {
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return err
	}
	number %= all.Count()
	for core := 0; ; core++ {
		if !all.IsSet(core) {
			continue
		}
		if number == 0 {
			one.Set(core)
			return unix.SchedSetaffinity(0, &one)
		}
		number--
	}
}

// listen opens a socket that listens in a namespace.
func listen(t testing.TB, in *netns.NS, at *unix.SockaddrInet4) (fd int) {
	t.Helper()
	in.Must("listening", func() (err error) {
		if fd, err = socket(0); err != nil {
			return err
		}
		return errors.Join(unix.Bind(fd, at), unix.Listen(fd, 128))
	})
	return fd
}

// socket opens one in the calling thread's namespace, which waits no longer than socketWait.
func socket(flags int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|flags, 0)
	if err != nil {
		return 0, err
	}
	return fd, bound(fd)
}

func bound(fd int) error {
	wait := unix.NsecToTimeval(socketWait.Nanoseconds())
	return errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &wait))
}

// again says of an error that the same is to be tried once more: a signal came, or there was nothing for the length of a wait.
func again(err error) bool { return errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) }
