package main

import (
	"errors"
	"fmt"
	"os"
	"runtime/metrics"
	"runtime/pprof"
	"syscall"
	"time"
)

// profile writes a profile of the processor's time to a file while pods change.
type profile struct{ file *os.File }

// Profile begins one in a file; without a name the one that was begun ends.
func (p *profile) Profile(name string, _ *None) error {
	if name == "" {
		if p.file == nil {
			return nil
		}
		pprof.StopCPUProfile()
		err := p.file.Close()
		p.file = nil
		return err
	}
	file, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("making the file of a profile: %w", err)
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return errors.Join(fmt.Errorf("beginning a profile: %w", err), file.Close())
	}
	p.file = file
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
