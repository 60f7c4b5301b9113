package raftstore

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"slices"

	bolt "go.etcd.io/bbolt"
)

// A backup is a line that names its version, messages, a length of 0, and the SHA-256 of all of it.
// A message is its length and its kind (uvarints) and then, for the BackupHeader, which is first, the
// message, and for all others a Blob of it: Leases, Records in the order of their keys (the newest
// version of every key that exists), and a BackupEnd.
const (
	backupPrefix  = "pintle raftstore backup "
	backupVersion = 1
)

const (
	backupHeader = 1
	backupLease  = 2
	backupRecord = 3
	backupEnd    = 4
)

// BackupOptions are for Store.BackupWith.
type BackupOptions struct {
	// Key wraps the key that seals this backup. nil: the store's KeyProvider, if the store is sealed.
	Key KeyProvider
	// Plain leaves the backup unsealed although the store is sealed.
	Plain bool
}

// Backup writes the state as it is now, consistent at one revision, while writes go on; it is sealed
// if the store is. It holds no history. What it wrote is worth nothing unless it returns nil. The
// state file cannot reuse the space that becomes free meanwhile: it grows while w is slow.
func (s *Store) Backup(ctx context.Context, w io.Writer) error {
	return s.BackupWith(ctx, w, BackupOptions{})
}

// BackupWith is Backup with options.
func (s *Store) BackupWith(ctx context.Context, w io.Writer, opts BackupOptions) error {
	if opts.Plain && opts.Key != nil {
		return fmt.Errorf("backup: %w: Plain and Key exclude each other", ErrInvalid)
	}
	var key *dataKey
	if p := opts.Key; !opts.Plain {
		if p == nil {
			p = s.files.ring.sealedBy()
		}
		if p != nil {
			var err error
			if key, err = newDataKey(ctx, p); err != nil {
				return fmt.Errorf("backup: %w", err)
			}
		}
	}
	if err := s.readIndex(ctx); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	for {
		v, leases, lastLease := s.m.still()
		b := &backup{w: w, key: key, v: v, leases: leases, lastLease: lastLease}
		var err error
		if s.files.state == nil {
			err = b.write(ctx, s.m.read)
		} else {
			// With a read transaction that begins when everything is in the file, no value can go.
			if err = s.files.state.flush(s.m); err != nil {
				s.fail.set(err)
				return fmt.Errorf("backup: %w", err)
			}
			err = s.files.state.view(func(tx *bolt.Tx) error {
				// Was something compacted away between the two?
				if s.m.view.Load().compacted != v.compacted {
					return errGone
				}
				open := s.files.ring.opener()
				return b.write(ctx, func(vs []*version) ([]KV, error) { return readIn(tx, vs, &open) })
			})
		}
		if errors.Is(err, errGone) {
			continue
		}
		if err != nil {
			return fmt.Errorf("backup: %w", err)
		}
		return nil
	}
}

// still is a consistent state between two entries.
func (m *machine) still() (v *view, leases map[int64]int64, lastLease int64) {
	m.step.Lock()
	defer m.step.Unlock()
	leases = map[int64]int64{}
	for id, l := range m.leases {
		leases[id] = l.ttlMillis
	}
	return m.view.Load(), leases, m.lastLease
}

func readIn(tx *bolt.Tx, vs []*version, open *opener) ([]KV, error) {
	kvs := make([]KV, len(vs))
	for i, v := range vs {
		value, err := readValue(tx.Bucket(bucketVal), open, v)
		if errors.Is(err, errGone) {
			err = fmt.Errorf("%w: the value of %q is missing", ErrCorrupt, v.key)
		}
		if err != nil {
			return nil, err
		}
		kvs[i] = v.kv(value)
	}
	return kvs, nil
}

// backup is one backup being written.
type backup struct {
	w         io.Writer
	key       *dataKey // nil: not sealed
	v         *view
	leases    map[int64]int64
	lastLease int64
}

func (b *backup) write(ctx context.Context, read func([]*version) ([]KV, error)) error {
	out := &backupWriter{w: bufio.NewWriterSize(b.w, 64<<10), sum: sha256.New()}
	if err := out.raw(backupLine(backupVersion)); err != nil {
		return err
	}
	if err := out.header(b.header(), b.key); err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(b.leases)) {
		if err := out.message(backupLease, putVarint(putVarint(nil, 1, uint64(id)), 2, uint64(b.leases[id]))); err != nil {
			return err
		}
	}
	var err error
	records := uint64(0)
	b.v.root.ascend("", func(_ string, vers []*version) bool {
		x := current(vers)
		if x == nil {
			return true
		}
		if err = context.Cause(ctx); err != nil {
			return false
		}
		records++
		var kvs []KV
		if kvs, err = read([]*version{x}); err == nil {
			err = out.message(backupRecord, encodeRecord(x, kvs[0].Value))
		}
		return err == nil
	})
	if err != nil {
		return err
	}
	if err := out.message(backupEnd, putVarint(putVarint(nil, 1, records), 2, uint64(len(b.leases)))); err != nil {
		return err
	}
	return out.end()
}

func (b *backup) header() []byte {
	head := putVarint(putVarint(nil, 1, uint64(b.v.rev)), 2, uint64(b.lastLease))
	if b.key != nil {
		head = putMessage(head, 3, b.key.encode())
	}
	return head
}

func backupLine(version int) []byte { return fmt.Appendf(nil, "%s%d\n", backupPrefix, version) }

// backupPlace is what message n of a backup is bound to: nothing can be taken from another backup,
// moved or left out.
func backupPlace(head []byte, n, kind uint64) string {
	b := make([]byte, 0, len(head)+16)
	b = append(b, head...)
	return string(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, n), kind))
}

type backupWriter struct {
	w    *bufio.Writer
	sum  hash.Hash
	seal *sealer
	head []byte
	n    uint64
}

func (b *backupWriter) raw(p []byte) error {
	_, _ = b.sum.Write(p)
	_, err := b.w.Write(p)
	return err
}

func (b *backupWriter) frame(kind uint64, msg []byte) error {
	head := binary.AppendUvarint(binary.AppendUvarint(nil, uint64(len(msg))+1), kind)
	if err := b.raw(head); err != nil {
		return err
	}
	return b.raw(msg)
}

// header is the first message; key seals the others.
func (b *backupWriter) header(msg []byte, key *dataKey) error {
	b.head = msg
	b.seal = newSealer(0, nil)
	if key != nil {
		x, err := newXAES(key.secret)
		if err != nil {
			return err
		}
		b.seal = newSealer(key.id, x)
	}
	return b.frame(backupHeader, msg)
}

func (b *backupWriter) message(kind uint64, msg []byte) error {
	b.n++
	return b.frame(kind, b.seal.blob(nil, backupPlace(b.head, b.n, kind), msg))
}

func (b *backupWriter) end() error {
	if err := b.raw([]byte{0}); err != nil {
		return err
	}
	if _, err := b.w.Write(b.sum.Sum(nil)); err != nil {
		return err
	}
	return b.w.Flush()
}
