// Package whole is the shape of drivers that have little in the kernel, and compare all of it each time that something changed.
package whole

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Desired is what the kernel should have, and knows whether that changed.
type Desired interface {
	// HasDirty tells whether anything changed since the last Clean.
	HasDirty() bool
	// Clean forgets what changed.
	Clean()
}

// Driver makes a part of the kernel equal to what is desired. Its methods may be called from one goroutine at a time, Resync from any.
type Driver[T Desired] struct {
	handle  *netlink.Handle
	compare Compare[T]
	resync  atomic.Bool
	known   bool
}

// Compare makes the kernel equal to desired. It gives what was refused alone, while all else is in force; or an error that concerns
// everything.
type Compare[T Desired] func(kernel *netlink.Handle, desired T) (refused []error, err error)

// New opens a connection to the calling thread's network namespace, for what an error calls by the name of what. It changes nothing.
func New[T Desired](what string, compare Compare[T]) (*Driver[T], error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", what, err)
	}
	return &Driver[T]{handle: handle, compare: compare}, nil
}

// Close ends the connection. What is in the kernel stays.
func (d *Driver[T]) Close() error {
	d.handle.Close()
	return nil
}

// Resync makes the next Apply compare everything with the kernel, also when nothing changed.
func (d *Driver[T]) Resync() { d.resync.Store(true) }

// Changed implements the interface of drivers: changes by others are undone at the next comparison.
func (d *Driver[T]) Changed() <-chan struct{} { return nil }

// Disturbances implements the interface of drivers.
func (d *Driver[T]) Disturbances() int64 { return 0 }

// Apply makes the kernel equal to desired. What was refused alone comes as tables.ItemErrors, joined, while all else is in force.
func (d *Driver[T]) Apply(_ context.Context, desired T) error {
	if !d.resync.Swap(false) && d.known && !desired.HasDirty() {
		return nil
	}
	d.known = false
	refused, err := d.compare(d.handle, desired)
	if err != nil {
		return err
	}
	d.known = len(refused) == 0
	desired.Clean()
	return errors.Join(refused...)
}
