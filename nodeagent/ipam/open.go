package ipam

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// newSuffix is in the names of journals that are being made.
const newSuffix = ".new-"

// openJournal opens the journal at path, or makes it.
func openJournal(path string) (*journal, error) {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		if err := makeJournal(path); err != nil {
			return nil, fmt.Errorf("making %s: %w", path, err)
		}
	}
	db, err := openPrepared(path)
	switch {
	case errors.Is(err, berrors.ErrInvalid) || errors.Is(err, berrors.ErrChecksum) || errors.Is(err, berrors.ErrVersionMismatch):
		return nil, fmt.Errorf("%s: %w: it is damaged. Move it away, and the node begins with what it last reported", path, err)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	// The journal is locked, so that what others are making now can't become it.
	if err := removeUnfinished(path); err != nil {
		return nil, errors.Join(fmt.Errorf("removing unfinished journals: %w", err), db.Close())
	}
	return &journal{db: db}, nil
}

// makeJournal makes a journal under another name and gives it its own when it is whole: one of which the loss of power left a part could not
// be told from a damaged one. A journal that somebody else has made in the meantime stays.
func makeJournal(path string) error {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+newSuffix+"*")
	if err != nil {
		return err
	}
	unfinished := file.Name()
	defer func() { _ = os.Remove(unfinished) }() // if it stays, the next start removes it
	if err := file.Close(); err != nil {
		return err
	}
	db, err := openPrepared(unfinished)
	if err != nil {
		return err
	}
	if err := db.Close(); err != nil {
		return err
	}
	if err := os.Link(unfinished, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDirectory(filepath.Dir(path))
}

// syncDirectory brings the names in a directory to disk.
func syncDirectory(path string) error {
	directory, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(directory.Sync(), directory.Close())
}

func removeUnfinished(path string) error {
	names, err := filepath.Glob(path + newSuffix + "*")
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// openPrepared opens a file and sees to it that it has all that a journal has.
func openPrepared(path string) (*bbolt.DB, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return nil, err
	}
	var version string
	err = db.View(func(tx *bbolt.Tx) error {
		if meta := tx.Bucket(bucketMeta()); meta != nil {
			version = string(meta.Get(keyVersion()))
		}
		return nil
	})
	switch {
	case err != nil:
	case version == "":
		err = db.Update(prepare)
	case version != journalVersion:
		err = fmt.Errorf("it has version %q, this program writes version %s", version, journalVersion)
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// prepare makes a journal of an empty file.
func prepare(tx *bbolt.Tx) error {
	for _, name := range [][]byte{bucketMeta(), bucketOwners(), bucketFreed(), bucketLeases()} {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return fmt.Errorf("making bucket %s: %w", name, err)
		}
	}
	meta := tx.Bucket(bucketMeta())
	if err := meta.Put(keyFresh(), []byte{1}); err != nil {
		return fmt.Errorf("marking it as new: %w", err)
	}
	return meta.Put(keyVersion(), []byte(journalVersion))
}
