package raftstore

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"

	bolt "go.etcd.io/bbolt"
	"google.golang.org/protobuf/encoding/protowire"
)

// A backup is a magic line, length-prefixed (uvarint) messages, a length of 0, and the SHA-256 of
// all of it. The first message is a BackupHeader, then come Leases, then Records in the order of the
// writes: the newest version of every key that exists.
const backupMagic = "pintle raftstore backup 1\n"

// restoreGap is how far Restore raises the revision: further than any store gets between its last
// backup and its end, so that no revision is ever given out twice.
const restoreGap = 1_000_000_000

type backupWriter struct {
	w   *bufio.Writer
	sum hash.Hash
}

func (b *backupWriter) raw(p []byte) error {
	_, _ = b.sum.Write(p)
	_, err := b.w.Write(p)
	return err
}

func (b *backupWriter) message(kind uint64, msg []byte) error {
	head := binary.AppendUvarint(binary.AppendUvarint(nil, uint64(len(msg))+1), kind)
	if err := b.raw(head); err != nil {
		return err
	}
	return b.raw(msg)
}

const (
	backupHeader = 1
	backupLease  = 2
	backupRecord = 3
)

// Backup writes the state as it is now, consistent at one revision, while writes go on. It holds no
// history. What it wrote is worth nothing unless it returns nil.
func (s *Store) Backup(ctx context.Context, w io.Writer) error {
	if err := s.readIndex(ctx); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	for {
		v, leases, lastLease := s.m.still()
		var err error
		if s.files.state == nil {
			err = s.backup(ctx, w, v, leases, lastLease, s.m.read)
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
				return s.backup(ctx, w, v, leases, lastLease, func(vs []*version) ([]KV, error) { return readIn(tx, vs) })
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

func readIn(tx *bolt.Tx, vs []*version) ([]KV, error) {
	kvs := make([]KV, len(vs))
	for i, v := range vs {
		value := tx.Bucket(bucketVal).Get(v.diskKey())
		if value == nil {
			return nil, fmt.Errorf("%w: the value of %q is missing", ErrCorrupt, v.key)
		}
		kvs[i] = v.kv(value) // written before the transaction ends
	}
	return kvs, nil
}

func (s *Store) backup(ctx context.Context, w io.Writer, v *view, leases map[int64]int64, lastLease int64,
	read func([]*version) ([]KV, error)) error {
	out := &backupWriter{w: bufio.NewWriterSize(w, 64<<10), sum: sha256.New()}
	if err := out.raw([]byte(backupMagic)); err != nil {
		return err
	}
	head := putVarint(putVarint(nil, 1, uint64(v.rev)), 2, uint64(lastLease))
	if err := out.message(backupHeader, head); err != nil {
		return err
	}
	for id, ttl := range leases {
		if err := out.message(backupLease, putVarint(putVarint(nil, 1, uint64(id)), 2, uint64(ttl))); err != nil {
			return err
		}
	}
	var err error
	v.root.ascend("", func(_ string, vers []*version) bool {
		x := current(vers)
		if x == nil {
			return true
		}
		if err = context.Cause(ctx); err != nil {
			return false
		}
		var kvs []KV
		if kvs, err = read([]*version{x}); err == nil {
			err = out.message(backupRecord, encodeRecord(x, kvs[0].Value))
		}
		return err == nil
	})
	if err != nil {
		return err
	}
	if err := out.raw([]byte{0}); err != nil {
		return err
	}
	if _, err := out.w.Write(out.sum.Sum(nil)); err != nil {
		return err
	}
	return out.w.Flush()
}

// Restore makes a new store in cfg.Dir, which must hold none, from what Backup wrote. Nothing can be
// opened there unless the whole backup was read and its checksum is right. The revision is raised
// far above the backup's and everything earlier counts as compacted, so that whoever saw revisions
// after the backup reads anew instead of going back in time. Leases get their full time to live.
func Restore(cfg Config, r io.Reader) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	if cfg.Dir == "" {
		return fmt.Errorf("%w: restore needs a folder", ErrInvalid)
	}
	f, err := openFolder(&cfg, func(s *stateFile) error { return s.restore(r) })
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return f.close()
}

func (s *stateFile) restore(r io.Reader) error {
	in := &backupReader{sum: sha256.New()}
	in.r = bufio.NewReaderSize(r, 64<<10)
	magic := make([]byte, len(backupMagic))
	if err := in.full(magic); err != nil || string(magic) != backupMagic {
		return errors.Join(fmt.Errorf("%w: this is no backup, or one of another version", ErrCorrupt), err)
	}
	var t taken
	t.view, t.ttls = &view{}, map[int64]int64{}
	seen := false
	size := 0
	for {
		kind, msg, err := in.message()
		if err != nil {
			return err
		}
		if kind == 0 {
			break
		}
		if seen != (kind != backupHeader) {
			return fmt.Errorf("%w: the header of the backup is not first", ErrCorrupt)
		}
		switch kind {
		case backupHeader:
			seen = true
			var rev, lease int64
			if err := eachField(msg, pair("BackupHeader", &rev, &lease)); err != nil {
				return err
			}
			if rev < 0 || rev > math.MaxInt64/2 {
				return fmt.Errorf("%w: revision %d", ErrCorrupt, rev)
			}
			t.view.rev, t.view.compacted, t.lastLease = rev+restoreGap, rev+restoreGap, lease
		case backupLease:
			var id, ttl int64
			if err := eachField(msg, pair("Lease", &id, &ttl)); err != nil {
				return err
			}
			t.ttls[id] = ttl
		case backupRecord:
			v, value, err := decodeRecord(msg)
			if err != nil {
				return err
			}
			if value == nil {
				value = []byte{}
			}
			v.value.Store(&value)
			t.puts = append(t.puts, v)
			if size += len(value) + len(v.key); size > 16<<20 {
				if err := s.write(&t); err != nil {
					return err
				}
				t.puts, size = nil, 0
			}
		default:
			return fmt.Errorf("%w: message %d of the backup is not known", ErrCorrupt, kind)
		}
	}
	if !seen {
		return fmt.Errorf("%w: empty backup", ErrCorrupt)
	}
	want := in.sum.Sum(nil)
	got := make([]byte, len(want))
	if err := in.full(got); err != nil || !bytes.Equal(got, want) {
		return errors.Join(fmt.Errorf("%w: the checksum of the backup is wrong", ErrCorrupt), err)
	}
	return s.write(&t)
}

func (s *stateFile) write(t *taken) error {
	if err := s.update(func(tx *bolt.Tx) error { return writeTaken(tx, t) }); err != nil {
		return fmt.Errorf("write state file: %w", err)
	}
	return nil
}

func pair(name string, a, b *int64) func(protowire.Number, uint64, []byte) error {
	return func(num protowire.Number, v uint64, _ []byte) error {
		switch num {
		case 1:
			*a = int64(v)
		case 2:
			*b = int64(v)
		default:
			return unknownField(name, num)
		}
		return nil
	}
}

type backupReader struct {
	r   *bufio.Reader
	sum hash.Hash
}

// ReadByte is for binary.ReadUvarint.
func (b *backupReader) ReadByte() (byte, error) {
	c, err := b.r.ReadByte()
	if err == nil {
		_, _ = b.sum.Write([]byte{c})
	}
	return c, err
}

func (b *backupReader) full(p []byte) error {
	if _, err := io.ReadFull(b.r, p); err != nil {
		return fmt.Errorf("%w: the backup is cut short: %w", ErrCorrupt, err)
	}
	_, _ = b.sum.Write(p)
	return nil
}

// message returns kind 0 at the end.
func (b *backupReader) message() (kind uint64, msg []byte, err error) {
	n, err := binary.ReadUvarint(b)
	if err != nil {
		return 0, nil, fmt.Errorf("%w: the backup is cut short: %w", ErrCorrupt, err)
	}
	if n == 0 {
		return 0, nil, nil
	}
	if n > MaxTxnBytes+1<<10 {
		return 0, nil, fmt.Errorf("%w: a message of %d bytes in the backup", ErrCorrupt, n)
	}
	if kind, err = binary.ReadUvarint(b); err != nil {
		return 0, nil, fmt.Errorf("%w: the backup is cut short: %w", ErrCorrupt, err)
	}
	msg = make([]byte, n-1)
	return kind, msg, b.full(msg)
}
