package protocol

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const (
	// DefaultQueue is where deferred DELs are kept unless told otherwise.
	DefaultQueue = "/var/lib/manul/cni/deferred"

	// MaxDeferred bounds the queue.
	MaxDeferred = 4096

	maxEntrySize = 4096 // bytes; a DelRequest of the longest names needs less than 1000
	queueSuffix  = ".json"
)

// ErrQueueFull says that the queue holds MaxDeferred.
var ErrQueueFull = fmt.Errorf("%d DELs are waiting for the node agent already", MaxDeferred)

// Queue keeps, in a directory on disk, the DELs that the plugin could not bring to the agent, until the agent takes them.
//
// There is one file per attachment, so that queueing twice is queueing once. Both sides hold a lock on the directory, and
// the agent listens before it first looks: a plugin that holds the lock and reaches no agent can be sure that the agent,
// when it comes, will find what the plugin leaves here. The directory is made when first needed.
type Queue struct {
	Dir string
}

// Locked calls f while no one else holds the queue's lock. It waits for the lock until ctx ends.
func (q Queue) Locked(ctx context.Context, f func() error) error {
	if err := os.MkdirAll(q.Dir, 0o700); err != nil {
		return fmt.Errorf("making queue of deferred DELs: %w", err)
	}
	lock, err := os.Open(q.Dir)
	if err != nil {
		return fmt.Errorf("opening queue of deferred DELs: %w", err)
	}
	defer lock.Close() // closing ends the lock
	if err := Flock(ctx, lock); err != nil {
		return fmt.Errorf("locking queue of deferred DELs: %w", err)
	}
	return f()
}

// Put keeps r durably. The caller holds the lock.
func (q Queue) Put(r DelRequest) error {
	if err := r.Validate(); err != nil {
		return fmt.Errorf("queueing DEL: %w", err)
	}
	names, err := q.names()
	if err != nil {
		return fmt.Errorf("queueing DEL: %w", err)
	}
	if len(names) >= MaxDeferred {
		return fmt.Errorf("queueing DEL: %w", ErrQueueFull)
	}
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("queueing DEL: %w", err)
	}
	if err := q.write(q.path(r.Attachment), data); err != nil {
		return fmt.Errorf("queueing DEL: %w", err)
	}
	return nil
}

// Has tells whether a DEL of the attachment waits.
func (q Queue) Has(a Attachment) bool {
	_, err := os.Lstat(q.path(a))
	return err == nil
}

// Replay calls do for each waiting DEL and forgets those for which it succeeds, and those that cannot be read. It goes on
// after a failure and gives all of them joined; it ends early when ctx does. The lock is held only while the
// directory is read.
func (q Queue) Replay(ctx context.Context, do func(context.Context, DelRequest) error) error {
	var names []string
	err := q.Locked(ctx, func() (err error) {
		names, err = q.names()
		return err
	})
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return errors.Join(append(errs, err)...)
		}
		errs = append(errs, q.replay(ctx, name, do))
	}
	return errors.Join(errs...)
}

// ReplayOne calls do for the attachment's DEL, if one waits, and forgets it if do succeeds.
func (q Queue) ReplayOne(ctx context.Context, a Attachment, do func(context.Context, DelRequest) error) error {
	return q.replay(ctx, filepath.Base(q.path(a)), do)
}

func (q Queue) replay(ctx context.Context, name string, do func(context.Context, DelRequest) error) error {
	path := filepath.Join(q.Dir, name)
	r, err := load(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if _, broken := errors.AsType[*Error](err); broken {
		return errors.Join(fmt.Errorf("dropping deferred DEL %s: %w", name, err), remove(path))
	}
	if err != nil {
		return fmt.Errorf("reading deferred DEL %s: %w", name, err)
	}
	if err := do(ctx, r); err != nil {
		return fmt.Errorf("replaying DEL of container %s, interface %s: %w", r.ContainerID, r.IfName, err)
	}
	return remove(path)
}

// path of the attachment's file. No container ID holds '@'.
func (q Queue) path(a Attachment) string {
	return filepath.Join(q.Dir, a.ContainerID+"@"+a.IfName+queueSuffix)
}

// names of the files that wait, MaxDeferred at most.
func (q Queue) names() ([]string, error) {
	dir, err := os.Open(q.Dir)
	if err != nil {
		return nil, err
	}
	defer dir.Close() // only read from
	all, err := dir.Readdirnames(2 * MaxDeferred)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	names := all[:0]
	for _, name := range all {
		if strings.HasSuffix(name, queueSuffix) && len(names) < MaxDeferred {
			names = append(names, name)
		}
	}
	return names, nil
}

// write puts data under path so that after a crash there is all of it or nothing.
func (q Queue) write(path string, data []byte) (err error) {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return errors.Join(err, remove(tmp))
	}
	dir, err := os.Open(q.Dir)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// load gives a Error when the content makes no sense.
func load(path string) (DelRequest, error) {
	var r DelRequest
	f, err := os.Open(path)
	if err != nil {
		return r, err
	}
	defer f.Close() // only read from
	data, err := io.ReadAll(io.LimitReader(f, maxEntrySize))
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, Errorf(CodeDecoding, "decoding: %v", err)
	}
	return r, r.Validate()
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
