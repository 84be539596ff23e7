package ipam

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"go.etcd.io/bbolt"
)

// journalVersion is the version of the form in which the journal is kept.
const journalVersion = "1"

// lockWait is how long to wait for another process to close the journal: one that is about to end.
const lockWait = time.Second

// journal keeps owners and the times at which addresses were freed in a bbolt file. Each write is one transaction,
// synced to disk.
type journal struct {
	db *bbolt.DB
	// around, if set, is called in place of each write, which it may carry out. It is for tests that cut the process off.
	around func(write func() error) error
}

func (j *journal) update(do func(*bbolt.Tx) error) error {
	if j.around != nil {
		return j.around(func() error { return j.db.Update(do) })
	}
	return j.db.Update(do)
}

// entry is a record on disk. Its key is the owner's.
type entry struct {
	Endpoint    string       `json:"endpoint"`
	UID         string       `json:"uid,omitempty"`
	Addresses   []netip.Addr `json:"addresses"`
	Attachments []string     `json:"attachments,omitempty"`
	External    bool         `json:"external,omitempty"`
	Interface   string       `json:"interface,omitempty"`
	Chained     bool         `json:"chained,omitempty"`
}

func bucketMeta() []byte   { return []byte("meta") }
func bucketOwners() []byte { return []byte("owners") }
func bucketFreed() []byte  { return []byte("freed") }
func bucketLeases() []byte { return []byte("leases") }
func keyFresh() []byte     { return []byte("fresh") }
func keyVersion() []byte   { return []byte("version") }

func (j *journal) close() error { return j.db.Close() }

// read returns all that the journal holds, as a change from nothing.
func (j *journal) read() (change, error) {
	c := change{owners: map[ownerKey]*record{}, freed: map[netip.Addr]int64{}, stances: map[netip.Prefix]*stance{}}
	used := map[netip.Addr]string{}
	err := j.db.View(func(tx *bbolt.Tx) error {
		err := tx.Bucket(bucketOwners()).ForEach(func(key, value []byte) error {
			var e entry
			if err := json.Unmarshal(value, &e); err != nil {
				return fmt.Errorf("reading owner %q: %w", key, err)
			}
			for _, addr := range e.Addresses {
				if other, ok := used[addr]; ok {
					return fmt.Errorf("reading owner %q: address %s belongs to %q too", key, addr, other)
				}
				used[addr] = string(key)
			}
			c.owners[ownerKey(key)] = &record{
				Owner: Owner{Endpoint: e.Endpoint, UID: e.UID, Interface: e.Interface}, Addresses: e.Addresses, Attachments: e.Attachments,
				External: e.External, Chained: e.Chained,
			}
			return nil
		})
		if err != nil {
			return err
		}
		err = tx.Bucket(bucketLeases()).ForEach(func(key, value []byte) error {
			cidr, err := netip.ParsePrefix(string(key))
			if err != nil {
				return fmt.Errorf("reading block %q: %w", key, err)
			}
			var s stance
			if err := json.Unmarshal(value, &s); err != nil {
				return fmt.Errorf("reading block %q: %w", key, err)
			}
			c.stances[cidr] = &s
			return nil
		})
		if err != nil {
			return err
		}
		return tx.Bucket(bucketFreed()).ForEach(func(key, value []byte) error {
			addr, ok := netip.AddrFromSlice(key)
			if !ok || len(value) != 8 {
				return fmt.Errorf("reading freed address %x: it is malformed", key)
			}
			c.freed[addr] = int64(binary.BigEndian.Uint64(value))
			return nil
		})
	})
	if err != nil {
		return change{}, err
	}
	return c, nil
}

// write makes a change durable.
func (j *journal) write(c change) error {
	err := j.update(func(tx *bbolt.Tx) error {
		owners, freed := tx.Bucket(bucketOwners()), tx.Bucket(bucketFreed())
		for key, r := range c.owners {
			if err := putOwner(owners, key, r); err != nil {
				return fmt.Errorf("writing owner %q: %w", key, err)
			}
		}
		for addr, at := range c.freed {
			if err := putFreed(freed, addr, at); err != nil {
				return fmt.Errorf("writing freed address %s: %w", addr, err)
			}
		}
		leases := tx.Bucket(bucketLeases())
		for cidr, s := range c.stances {
			if err := putStance(leases, cidr, s); err != nil {
				return fmt.Errorf("writing block %s: %w", cidr, err)
			}
		}
		if c.known {
			return tx.Bucket(bucketMeta()).Delete(keyFresh())
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("writing the address journal: %w", err)
	}
	return nil
}

func putOwner(bucket *bbolt.Bucket, key ownerKey, r *record) error {
	if r == nil {
		return bucket.Delete([]byte(key))
	}
	value, err := json.Marshal(entry{
		Endpoint: r.Owner.Endpoint, UID: r.Owner.UID, Interface: r.Owner.Interface, Addresses: r.Addresses,
		Attachments: slices.Clone(r.Attachments), External: r.External, Chained: r.Chained,
	})
	if err != nil {
		return err
	}
	return bucket.Put([]byte(key), value)
}

func putFreed(bucket *bbolt.Bucket, addr netip.Addr, at int64) error {
	if at == neverUsed {
		return bucket.Delete(addr.AsSlice())
	}
	return bucket.Put(addr.AsSlice(), binary.BigEndian.AppendUint64(nil, uint64(at)))
}

func putStance(bucket *bbolt.Bucket, cidr netip.Prefix, s *stance) error {
	if s == nil {
		return bucket.Delete([]byte(cidr.String()))
	}
	value, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return bucket.Put([]byte(cidr.String()), value)
}

// fresh tells whether nothing was known of the addresses in use when the journal was made, and nobody has told since.
func (j *journal) fresh() (fresh bool, err error) {
	err = j.db.View(func(tx *bbolt.Tx) error {
		fresh = tx.Bucket(bucketMeta()).Get(keyFresh()) != nil
		return nil
	})
	return fresh, err
}
