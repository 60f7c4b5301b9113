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
	"strconv"
	"strings"

	bolt "go.etcd.io/bbolt"
	"google.golang.org/protobuf/encoding/protowire"
)

// restoreGap is how far Restore raises the revision: further than any store gets between its last
// backup and its end, so that no revision is ever given out twice.
const restoreGap = 1_000_000_000

// RestoreOptions are for RestoreWith.
type RestoreOptions struct {
	// Key unwraps the key of a sealed backup. nil: Config.KeyProvider.
	Key KeyProvider
}

// Restore makes a new store in cfg.Dir, which must hold none, from what Backup wrote. Nothing can be
// opened there unless the whole backup was read and its checksum is right. The revision is raised
// far above the backup's and everything earlier counts as compacted, so that whoever saw revisions
// after the backup reads anew instead of going back in time. Leases get their full time to live.
//
// Errors: ErrNewer, ErrKey when the backup is sealed and the key does not fit, ErrCorrupt, ErrInvalid
// when the folder holds a store already.
func Restore(cfg Config, r io.Reader) error { return RestoreWith(cfg, r, RestoreOptions{}) }

// RestoreWith is Restore with options.
func RestoreWith(cfg Config, r io.Reader, opts RestoreOptions) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	if cfg.Dir == "" {
		return fmt.Errorf("restore: %w: it needs a folder", ErrInvalid)
	}
	if opts.Key == nil {
		opts.Key = cfg.KeyProvider
	}
	f, err := openFolder(&cfg, func(s *stateFile) error { return s.restore(r, opts.Key) })
	if err != nil {
		return fmt.Errorf("restore: %w", advised(err))
	}
	return f.close()
}

// BackupInfo says what is in a backup.
type BackupInfo struct {
	Revision     int64
	Keys, Leases int
	SealedBy     string // KeyProvider.Name; "" if it is not sealed
}

// VerifyBackup reads a whole backup and returns nil if it can be restored: it is complete, every
// checksum is right, and key (nil: none) opens it.
func VerifyBackup(r io.Reader, key KeyProvider) (BackupInfo, error) {
	var info BackupInfo
	in := newBackupReader(r, key)
	err := in.each(func(item backupItem) error {
		switch {
		case item.lease != 0:
			info.Leases++
		case item.record != nil:
			info.Keys++
		}
		return nil
	})
	info.Revision, info.SealedBy = in.revision, in.sealedBy
	return info, err
}

func (s *stateFile) restore(r io.Reader, key KeyProvider) error {
	t := taken{view: &view{}, ttls: map[int64]int64{}}
	size := 0
	in := newBackupReader(r, key)
	err := in.each(func(item backupItem) error {
		if item.lease != 0 {
			t.ttls[item.lease] = item.ttlMillis
			return nil
		}
		v := item.record
		v.value.Store(&item.value)
		t.puts = append(t.puts, v)
		if size += len(item.value) + len(v.key); size > 16<<20 {
			if err := s.write(&t); err != nil {
				return err
			}
			t.puts, size = nil, 0
		}
		return nil
	})
	if err != nil {
		return err
	}
	rev := in.revision + restoreGap
	t.view.rev, t.view.compacted, t.lastLease = rev, rev, in.lastLease
	return s.write(&t)
}

// backupItem is a lease or a record with its value.
type backupItem struct {
	lease, ttlMillis int64
	record           *version
	value            []byte
}

type backupReader struct {
	r    *bufio.Reader
	sum  hash.Hash
	key  KeyProvider
	open opener
	head []byte
	n    uint64

	revision, lastLease int64 // once the header was read
	sealedBy            string
}

func newBackupReader(r io.Reader, key KeyProvider) *backupReader {
	return &backupReader{r: bufio.NewReaderSize(r, 64<<10), sum: sha256.New(), key: key}
}

// each calls fn for everything in the backup. It returns nil only if the backup is whole and right.
func (b *backupReader) each(fn func(backupItem) error) error {
	if err := b.line(); err != nil {
		return err
	}
	if err := b.header(); err != nil {
		return err
	}
	var records, leases uint64
	last, ended := "", false
	for {
		kind, msg, err := b.message()
		if err != nil {
			return err
		}
		if kind == 0 {
			break
		}
		if ended {
			return fmt.Errorf("%w: the backup goes on after its end", ErrCorrupt)
		}
		var item backupItem
		switch kind {
		case backupLease:
			leases++
			if err := eachField(msg, pair("Lease", &item.lease, &item.ttlMillis)); err != nil {
				return err
			}
			if item.lease <= 0 || item.lease > b.lastLease {
				return fmt.Errorf("%w: lease %d in the backup", ErrCorrupt, item.lease)
			}
		case backupRecord:
			records++
			item.record, item.value, err = decodeRecord(msg)
			if err != nil {
				return err
			}
			v := item.record
			if v.key <= last || v.tomb || v.mod <= 0 || v.mod > b.revision || v.create > v.mod {
				return fmt.Errorf("%w: key %q at revision %d in a backup of revision %d", ErrCorrupt, v.key, v.mod, b.revision)
			}
			last = v.key
			if item.value == nil {
				item.value = []byte{}
			}
		case backupEnd:
			ended = true
			var r, l int64
			if err := eachField(msg, pair("BackupEnd", &r, &l)); err != nil {
				return err
			}
			if uint64(r) != records || uint64(l) != leases {
				return fmt.Errorf("%w: the backup holds %d keys and %d leases, and says %d and %d", ErrCorrupt, records, leases, r, l)
			}
			continue
		default:
			return fmt.Errorf("%w: message %d of the backup is not known", ErrCorrupt, kind)
		}
		if err := fn(item); err != nil {
			return err
		}
	}
	want := b.sum.Sum(nil)
	got := make([]byte, len(want))
	if err := b.full(got); err != nil {
		return err
	}
	if !ended || !bytes.Equal(got, want) {
		return fmt.Errorf("%w: the checksum of the backup is wrong", ErrCorrupt)
	}
	return nil
}

func (b *backupReader) line() error {
	line := make([]byte, 0, 32)
	for len(line) < 32 && !bytes.HasSuffix(line, []byte("\n")) {
		c, err := b.ReadByte()
		if err != nil {
			return cutShort(err)
		}
		line = append(line, c)
	}
	rest, ok := strings.CutPrefix(string(line), backupPrefix)
	version, err := strconv.Atoi(strings.TrimSuffix(rest, "\n"))
	if !ok || err != nil || version < 1 {
		return fmt.Errorf("%w: this is no backup: it begins with %q", ErrCorrupt, line)
	}
	if version > backupVersion {
		return fmt.Errorf("%w: the backup has version %d, this program knows version %d. Restore it with the program that wrote it, or a newer one",
			ErrNewer, version, backupVersion)
	}
	return nil
}

func (b *backupReader) header() error {
	kind, msg, err := b.frame()
	if err != nil {
		return err
	}
	if kind != backupHeader {
		return fmt.Errorf("%w: the header of the backup is not first", ErrCorrupt)
	}
	b.head = msg
	ring := &keyring{path: "the backup", all: map[uint32]*xaes{}}
	b.open = ring.opener()
	return eachField(msg, func(num protowire.Number, v uint64, bs []byte) error {
		switch num {
		case 1:
			b.revision = int64(v)
			if b.revision < 0 || b.revision > math.MaxInt64/2 {
				return fmt.Errorf("%w: revision %d", ErrCorrupt, b.revision)
			}
		case 2:
			b.lastLease = int64(v)
		case 3:
			key, err := decodeDataKey(bs)
			if err != nil {
				return err
			}
			b.sealedBy = key.provider
			if b.key == nil {
				return fmt.Errorf("%w: the backup is sealed with a key that %q wraps: give that KeyProvider", ErrKey, key.provider)
			}
			ctx, cancel := context.WithTimeout(context.Background(), providerTimeout)
			defer cancel()
			if err := key.unwrap(ctx, b.key); err != nil {
				return err
			}
			ring.current = key.id
			b.open = ring.opener()
			return ring.learn(key)
		default:
			return unknownField("BackupHeader", num)
		}
		return nil
	})
}

// message returns kind 0 at the end.
func (b *backupReader) message() (kind uint64, msg []byte, err error) {
	kind, sealed, err := b.frame()
	if err != nil || kind == 0 {
		return 0, nil, err
	}
	b.n++
	place := backupPlace(b.head, b.n, kind)
	if msg, err = b.open.blob(sealed, place); err != nil {
		return 0, nil, fmt.Errorf("message %d of the backup: %w", b.n, err)
	}
	return kind, msg, nil
}

func (b *backupReader) frame() (kind uint64, msg []byte, err error) {
	n, err := binary.ReadUvarint(b)
	if err != nil {
		return 0, nil, cutShort(err)
	}
	if n == 0 {
		return 0, nil, nil
	}
	if n > MaxTxnBytes+4<<10 {
		return 0, nil, fmt.Errorf("%w: a message of %d bytes in the backup", ErrCorrupt, n)
	}
	if kind, err = binary.ReadUvarint(b); err != nil {
		return 0, nil, cutShort(err)
	}
	if kind == 0 {
		return 0, nil, fmt.Errorf("%w: a message without kind in the backup", ErrCorrupt)
	}
	msg = make([]byte, n-1)
	return kind, msg, b.full(msg)
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
		return cutShort(err)
	}
	_, _ = b.sum.Write(p)
	return nil
}

func cutShort(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: the backup is cut short", ErrCorrupt)
	}
	return fmt.Errorf("read the backup: %w", err)
}

func (s *stateFile) write(t *taken) error {
	err := s.update(func(tx *bolt.Tx) error { return writeTaken(tx, t, s.ring.sealer()) })
	if err != nil {
		return fmt.Errorf("write state file: %w", err)
	}
	return nil
}

// pair reads a message of two numbers.
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
