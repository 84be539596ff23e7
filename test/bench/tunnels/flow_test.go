package tunnels

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/manul-net/manul/test/netns"
)

// flow sends over one TCP connection between the pods of a path. Whoever sends keeps to the machine's first core and whoever receives
// to its second, and both wait in the kernel: where the scheduler or the runtime puts them would else be most of what is seen.
type flow struct {
	path     *path
	out, in  int // sockets
	sender   chan func()
	received atomic.Int64
	// awaited is how much is received when the turn is over; 0: not known yet. arrived tells that it is.
	awaited  atomic.Int64
	arrived  chan struct{}
	threads  [2]int // of the sender and of the receiver
	softirqs []int  // the kernel's threads for softirqs
}

// reading is what one turn took.
type reading struct {
	bytes   int64
	seconds float64
	// cpu is the processors' time in seconds, of the sender, the receiver, and the kernel's threads for softirqs. What the kernel does
	// with packets is done by one of them.
	cpu float64
	// packets that the two pods received, data and acknowledgements. One carries up to 64 KiB while no device has to cut it.
	packets uint64
}

// and adds readings of several turns.
func (r reading) and(o reading) reading {
	return reading{r.bytes + o.bytes, r.seconds + o.seconds, r.cpu + o.cpu, r.packets + o.packets}
}

func (r reading) rate() float64       { return float64(r.bytes) / r.seconds / 1e6 }
func (r reading) perCPU() float64     { return float64(r.bytes) / r.cpu / 1e6 }
func (r reading) perPacket() float64  { return r.cpu / float64(r.packets) * 1e9 }
func (r reading) packetSize() float64 { return float64(r.bytes) / float64(r.packets) }

const (
	portOfFlows = 8081
	// socketWait bounds each wait for the other end.
	socketWait = 10 * time.Second
)

// newFlow connects the pods of a path.
func newFlow(b *testing.B, p *path) *flow {
	b.Helper()
	f := &flow{path: p, sender: make(chan func()), arrived: make(chan struct{}, 1), softirqs: softirqThreads(b)}
	at := &unix.SockaddrInet4{Port: portOfFlows, Addr: p.address.As4()}
	listener := f.socket(b, p.to)
	p.to.Must("listening", func() error { return errors.Join(unix.Bind(listener, at), unix.Listen(listener, 1)) })
	f.out = f.socket(b, p.from)
	p.from.Must("connecting to "+netip.AddrPortFrom(p.address, portOfFlows).String(), func() error { return unix.Connect(f.out, at) })
	in, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
	if err != nil {
		b.Fatalf("accepting the connection: %v", err)
	}
	f.in = in
	bound(b, in)
	var ready [2]chan error
	done := make(chan struct{}, len(ready))
	for i, work := range []func(){f.send, f.receive} {
		ready[i] = make(chan error, 1)
		go func() {
			defer func() { done <- struct{}{} }()
			runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and nothing else has its core
			f.threads[i] = unix.Gettid()
			err := keepTo(i)
			ready[i] <- err
			if err == nil {
				work()
			}
		}()
	}
	b.Cleanup(func() {
		close(f.sender)
		_ = unix.Shutdown(f.out, unix.SHUT_RDWR)
		for range ready {
			<-done
		}
		for _, fd := range []int{f.out, f.in, listener} {
			_ = unix.Close(fd)
		}
	})
	for _, r := range ready {
		if err := <-r; err != nil {
			b.Fatalf("keeping a thread to a core: %v", err)
		}
	}
	return f
}

func (f *flow) socket(b *testing.B, in *netns.NS) (fd int) {
	b.Helper()
	in.Must("opening a socket", func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		return err
	})
	bound(b, fd)
	return fd
}

func bound(b *testing.B, fd int) {
	b.Helper()
	wait := unix.NsecToTimeval(socketWait.Nanoseconds())
	for _, option := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} {
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, option, &wait); err != nil {
			b.Fatal(err)
		}
	}
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

func (f *flow) send() {
	for work := range f.sender {
		work()
	}
}

func (f *flow) receive() {
	buffer := make([]byte, 256<<10)
	for {
		n, err := unix.Read(f.in, buffer)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
			continue // it is the others' turn
		}
		if err != nil || n == 0 {
			return
		}
		if got, awaited := f.received.Add(int64(n)), f.awaited.Load(); got == awaited {
			f.tell()
		}
	}
}

func (f *flow) tell() {
	select {
	case f.arrived <- struct{}{}:
	default:
	}
}

// turn sends for a time and tells what it took, until all has arrived.
func (f *flow) turn(b *testing.B, length time.Duration) reading {
	b.Helper()
	var r reading
	var err error
	before := f.used(b)
	packets := f.packets(b)
	got := f.received.Load()
	f.awaited.Store(0)
	select {
	case <-f.arrived: // told twice
	default:
	}
	done := make(chan struct{})
	f.sender <- func() {
		defer close(done)
		data := make([]byte, 256<<10)
		from := time.Now()
		for time.Since(from) < length {
			var n int
			if n, err = unix.Write(f.out, data); err != nil {
				return
			}
			r.bytes += int64(n)
		}
		f.awaited.Store(got + r.bytes)
		if f.received.Load() == got+r.bytes {
			f.tell()
		}
		select {
		case <-f.arrived:
		case <-time.After(socketWait):
		}
		r.seconds = time.Since(from).Seconds()
	}
	<-done
	if err == nil && f.received.Load() != got+r.bytes {
		err = fmt.Errorf("%d of %d bytes arrived", f.received.Load()-got, r.bytes)
	}
	if err != nil {
		b.Fatalf("sending: %v", err)
	}
	r.packets = f.packets(b) - packets
	r.cpu = f.used(b) - before
	return r
}

// packets that the pods received so far.
func (f *flow) packets(b *testing.B) uint64 {
	b.Helper()
	return f.path.from.Link("eth0").Attrs().Statistics.RxPackets + f.path.to.Link("eth0").Attrs().Statistics.RxPackets
}

// used is the time that the flow's threads and those of softirqs have run so far, in seconds.
func (f *flow) used(b *testing.B) float64 {
	b.Helper()
	var sum float64
	for _, thread := range f.threads {
		// The clock of a thread's time, as clock_getcpuclockid(3) makes it.
		const ofThread, scheduled = 4, 2
		var t unix.Timespec
		if err := unix.ClockGettime(int32(^thread)<<3|ofThread|scheduled, &t); err != nil {
			b.Fatalf("reading the time of a thread: %v", err)
		}
		sum += float64(t.Nano()) / 1e9
	}
	for _, thread := range f.softirqs {
		text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(thread), "schedstat"))
		if err != nil {
			b.Fatal(err)
		}
		ran, err := strconv.ParseFloat(strings.Fields(string(text))[0], 64)
		if err != nil {
			b.Fatal(err)
		}
		sum += ran / 1e9
	}
	return sum
}

// softirqThreads are the kernel's threads that do what softirqs leave.
func softirqThreads(b *testing.B) (threads []int) {
	b.Helper()
	found, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		b.Fatal(err)
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
