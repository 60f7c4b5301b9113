package powerloss

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pintle/pintle/raftstore"
)

// promises is what the clients of one store know at some point of the recording. Each key counts up:
// write n puts n, every fifth one deletes. With each key goes a twin that the same transaction writes.
type promises struct {
	keys      map[string]*counter
	revision  int64
	compacted int64
	leases    map[int64]bool
	restoring bool // a restore into the folder has begun
	restored  bool // and is done
}

type counter struct {
	began int   // the newest write that was begun
	acked int   // the newest that was acknowledged,
	rev   int64 // at this revision
}

func deletes(n int) bool { return n%5 == 0 }

// all are the promises by store, which is the folder's name.
type all map[string]*promises

func (a all) of(store string) *promises {
	if a[store] == nil {
		a[store] = &promises{keys: map[string]*counter{}, leases: map[int64]bool{}}
	}
	return a[store]
}

// note takes a mark: a store, a verb, and its arguments.
func (a all) note(text string) error {
	f := strings.Fields(text)
	if len(f) < 2 {
		return fmt.Errorf("mark %q", text)
	}
	p := a.of(f[0])
	nums := make([]int64, 0, 2)
	for _, s := range f[2:] {
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			nums = append(nums, n)
		}
	}
	switch f[1] {
	case "begin": // key n
		if p.keys[f[2]] == nil {
			p.keys[f[2]] = &counter{}
		}
		p.keys[f[2]].began = int(nums[0])
	case "ack": // key n revision; revision 0: it was read
		if p.keys[f[2]] == nil {
			p.keys[f[2]] = &counter{}
		}
		c := p.keys[f[2]]
		c.acked, c.rev = int(nums[0]), nums[1]
		c.began = max(c.began, c.acked)
		p.revision = max(p.revision, c.rev)
	case "compacted": // revision
		p.compacted = max(p.compacted, nums[0])
	case "leased": // id
		p.leases[nums[0]] = true
	case "restoring":
		p.restoring = true
	case "restored": // revision at least; the keys are those of the backup
		p.restored = true
		p.revision = nums[0]
	case "holds": // key n: the backup that is being restored has this
		p.keys[f[2]] = &counter{began: int(nums[0]), acked: int(nums[0])}
	default:
		return fmt.Errorf("mark %q", text)
	}
	return nil
}

// verify opens every store below root and looks for what was promised. It returns what is lost.
func (a all) verify(ctx context.Context, root string, open opener) error {
	var errs []error
	for name, p := range a {
		if err := p.verify(ctx, filepath.Join(root, name), open); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

func (p *promises) verify(ctx context.Context, dir string, open opener) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	if p.restoring && !p.restored {
		if _, err := os.Stat(dir); err != nil {
			return nil // nothing there yet, nothing promised
		}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	stores, stop, err := open(ctx, dir)
	defer func() { err = errors.Join(err, stop()) }()
	if err != nil {
		return err
	}
	s := stores[0]
	if _, err := s.Range(ctx, raftstore.RangeRequest{CountOnly: true}); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if p.restoring && !p.restored && s.Revision() == 0 {
		return nil // an empty store: the restore is begun again
	}
	if s.Revision() < p.revision || s.CompactedRevision() < p.compacted {
		return fmt.Errorf("at revision %d, compacted to %d; acknowledged: %d, %d", s.Revision(), s.CompactedRevision(), p.revision, p.compacted)
	}
	for key, c := range p.keys {
		if err := c.verify(ctx, s, key); err != nil {
			return err
		}
	}
	for id := range p.leases {
		if err := s.KeepAlive(ctx, id); err != nil {
			return fmt.Errorf("lease %d: %w", id, err)
		}
	}
	if err := everyRevision(ctx, s); err != nil {
		return err
	}
	for i, s := range stores {
		if err := s.Check(ctx); err != nil {
			return fmt.Errorf("member %d: %w", i+1, err)
		}
	}
	was := s.Revision()
	if rev, err := s.Put(ctx, "after", nil); err != nil || rev != was+1 {
		return fmt.Errorf("the next write after %d is at %d: %w", was, rev, err)
	}
	return nil
}

// patience is how long a store may take that has nothing to wait for.
const patience = time.Minute

func (c *counter) verify(ctx context.Context, s *raftstore.Store, key string) error {
	kv, ok, err := s.Get(ctx, key)
	if err != nil {
		return err
	}
	twin, twinOK, err := s.Get(ctx, key+"/twin")
	if err != nil {
		return err
	}
	if ok != twinOK || kv.ModRevision != twin.ModRevision || string(kv.Value) != string(twin.Value) {
		return fmt.Errorf("half a transaction: %s at %d, its twin at %d", key, kv.ModRevision, twin.ModRevision)
	}
	number, _, _ := strings.Cut(string(kv.Value), " ")
	n, _ := strconv.Atoi(number)
	possible := ok && c.acked <= n && n <= c.began
	if !ok {
		possible = c.acked == 0
		for n := c.acked; n <= c.began; n++ {
			possible = possible || deletes(n)
		}
	}
	if !possible {
		return fmt.Errorf("%s is write %d (there: %v); %d was acknowledged, %d begun", key, n, ok, c.acked, c.began)
	}
	if ok && n == c.acked && c.rev != 0 && kv.ModRevision != c.rev {
		return fmt.Errorf("%s is at revision %d, acknowledged at %d", key, kv.ModRevision, c.rev)
	}
	return nil
}

// everyRevision reads the history: each revision since the compaction is there, in order.
func everyRevision(ctx context.Context, s *raftstore.Store) error {
	at := s.CompactedRevision()
	w, err := s.Watch(ctx, raftstore.WatchRequest{From: at + 1})
	if err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	defer w.Close()
	for at < s.Revision() {
		b, err := w.Next(ctx)
		if err != nil {
			return fmt.Errorf("watch after %d: %w", at, err)
		}
		revs := []int64{}
		for _, e := range b.Events {
			revs = append(revs, e.KV.ModRevision)
		}
		for _, rev := range slices.Compact(revs) {
			if rev != at+1 {
				return fmt.Errorf("the history has revision %d after %d", rev, at)
			}
			at = rev
		}
	}
	return nil
}
