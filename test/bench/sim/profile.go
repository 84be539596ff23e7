package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/metrics"
	"runtime/pprof"
	"syscall"
	"time"
)

// profile writes where the processor's time goes while something is done, to a file that ends in ".cpu.pprof", and what is held and has been
// allocated at its end, to one that ends in ".heap.pprof".
type profile struct {
	name string
	file *os.File
}

// Profile begins one; name is the path of its files without what they end in. Without a name the one that was begun ends.
func (p *profile) Profile(name string, _ *None) error {
	if name == "" {
		return p.end()
	}
	file, err := os.Create(name + ".cpu.pprof")
	if err != nil {
		return fmt.Errorf("making the file of a profile: %w", err)
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return errors.Join(fmt.Errorf("beginning a profile: %w", err), file.Close())
	}
	p.name, p.file = name, file
	return nil
}

func (p *profile) end() error {
	if p.file == nil {
		return nil
	}
	pprof.StopCPUProfile()
	err := p.file.Close()
	p.file = nil
	if err != nil {
		return fmt.Errorf("writing a profile: %w", err)
	}
	heap, err := os.Create(p.name + ".heap.pprof")
	if err != nil {
		return fmt.Errorf("making the file of a profile: %w", err)
	}
	runtime.GC()
	if err := errors.Join(pprof.Lookup("heap").WriteTo(heap, 0), heap.Close()); err != nil {
		return fmt.Errorf("writing a profile: %w", err)
	}
	return nil
}

// Usage is what a process has used until now.
type Usage struct {
	// CPU is processor time, in the kernel too.
	CPU time.Duration
	// Live is what the collector found in use the last time that it looked, bytes.
	Live uint64
}

// Usage tells what the process has used, without a collection.
func (*profile) Usage(_ None, u *Usage) (err error) {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	u.Live = sample[0].Value.Uint64()
	u.CPU, err = processorTime()
	return err
}

// processorTime is what this process has used until now, in the kernel too.
func processorTime() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("reading the processor's time: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}
