// Package checkpoint keeps the rendered objects that a node knows on its disk, so that an agent can start while neither
// the API server nor the operator answers. It is written object by object: a change costs work in proportion to itself.
package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/manul-net/manul/nodeagent/source"
)

const lockTimeout = 5 * time.Second

// File is a checkpoint on disk. It is safe for concurrent use: nobody but Flush and Load waits for the disk.
type File struct {
	db *bolt.DB
	// flushing is held by Flush; after it, mu.
	flushing, mu sync.Mutex
	// pending are the changes since the last Flush began. A nil object is gone.
	pending map[key]source.Object
}

type key struct {
	kind source.Kind
	name string
}

// Open opens the checkpoint at path or begins one. What cannot be read is moved aside: a checkpoint is only ever a copy.
func Open(path string) (*File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("making folder of checkpoint: %w", err)
	}
	db, err := open(path)
	if err != nil && !errors.Is(err, bolterrors.ErrTimeout) && !errors.Is(err, fs.ErrPermission) {
		if aside := os.Rename(path, path+".unreadable"); aside != nil {
			return nil, fmt.Errorf("moving unreadable checkpoint aside: %w", errors.Join(err, aside))
		}
		db, err = open(path)
	}
	if err != nil {
		return nil, fmt.Errorf("opening checkpoint %s: %w", path, err)
	}
	return &File{db: db, pending: map[key]source.Object{}}, nil
}

// open checks what it opens: a file that was cut short may open and then not bear reading.
func open(path string) (db *bolt.DB, err error) {
	db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: lockTimeout, FreelistType: bolt.FreelistMapType})
	if err != nil {
		return nil, err
	}
	err = db.View(func(tx *bolt.Tx) error {
		for problem := range tx.Check() {
			return problem
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// Set notes an object that is new or has changed. The object must not change afterwards.
func (f *File) Set(kind source.Kind, o source.Object) { f.note(key{kind, o.GetName()}, o) }

// Delete notes that an object is gone.
func (f *File) Delete(kind source.Kind, name string) { f.note(key{kind, name}, nil) }

func (f *File) note(k key, o source.Object) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pending[k] = o
}

// HasPending tells whether anything is noted that is neither on disk nor on its way there.
func (f *File) HasPending() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.pending) > 0
}

// Flush brings what is noted to the disk, all or nothing.
func (f *File) Flush() error {
	f.flushing.Lock()
	defer f.flushing.Unlock()
	f.mu.Lock()
	noted := f.pending
	f.pending = map[key]source.Object{}
	f.mu.Unlock()
	if len(noted) == 0 {
		return nil
	}
	err := f.write(noted)
	if err == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.Copy(noted, f.pending) // which is newer
	f.pending = noted
	return fmt.Errorf("writing checkpoint: %w", err)
}

func (f *File) write(noted map[key]source.Object) error {
	return f.db.Update(func(tx *bolt.Tx) error {
		for k, o := range noted {
			bucket, err := tx.CreateBucketIfNotExists([]byte(k.kind))
			if err != nil {
				return err
			}
			if o == nil {
				if err := bucket.Delete([]byte(k.name)); err != nil {
					return err
				}
				continue
			}
			value, err := json.Marshal(o)
			if err != nil {
				return fmt.Errorf("encoding %s %s: %w", k.kind, k.name, err)
			}
			if err := bucket.Put([]byte(k.name), value); err != nil {
				return err
			}
		}
		return nil
	})
}

// Load gives every object on disk. Objects that cannot be read are left out; the error names the last of them.
func (f *File) Load(each func(source.Kind, source.Object)) error {
	var unreadable error
	err := f.db.View(func(tx *bolt.Tx) error {
		for _, kind := range source.Kinds() {
			bucket := tx.Bucket([]byte(kind))
			if bucket == nil {
				continue
			}
			err := bucket.ForEach(func(name, value []byte) error {
				o := source.NewObject(kind)
				if err := json.Unmarshal(value, o); err != nil {
					unreadable = fmt.Errorf("decoding %s %s: %w", kind, name, err)
					return nil
				}
				each(kind, o)
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err = errors.Join(err, unreadable); err != nil {
		return fmt.Errorf("reading checkpoint: %w", err)
	}
	return nil
}

// Close closes the file without writing what is pending.
func (f *File) Close() error {
	if err := f.db.Close(); err != nil {
		return fmt.Errorf("closing checkpoint: %w", err)
	}
	return nil
}
