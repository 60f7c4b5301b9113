package raftstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Get returns one key as it is now, linearizably; ok is false when it does not exist.
func (s *Store) Get(ctx context.Context, key string) (kv KV, ok bool, err error) {
	r, err := s.Range(ctx, RangeRequest{Key: key})
	if err != nil || len(r.KVs) == 0 {
		return KV{}, false, err
	}
	return r.KVs[0], true, nil
}

// Range reads keys in order. Reads are lock-free: they hold up no write, and no write holds them up.
func (s *Store) Range(ctx context.Context, req RangeRequest) (RangeResult, error) {
	from, end, err := req.bounds()
	if err != nil {
		return RangeResult{}, err
	}
	if !req.Local {
		if err := s.readIndex(ctx); err != nil {
			return RangeResult{}, err
		}
	}
	for {
		v := s.m.view.Load()
		res, err := s.m.ranged(v, &req, from, end)
		if !errors.Is(err, errGone) {
			return res, err
		}
		// Compacted away while it was read: a newer view is there, and answers.
		if s.m.view.Load() == v {
			return RangeResult{}, fmt.Errorf("%w: a value is missing", ErrCorrupt)
		}
	}
}

func (req *RangeRequest) bounds() (from, end string, err error) {
	if req.Limit < 0 || req.Revision < 0 {
		return "", "", fmt.Errorf("%w: negative limit or revision", ErrInvalid)
	}
	switch {
	case req.Prefix != "":
		if req.End != "" {
			return "", "", fmt.Errorf("%w: Prefix and End exclude each other", ErrInvalid)
		}
		if req.Key != "" && !strings.HasPrefix(req.Key, req.Prefix) {
			return "", "", fmt.Errorf("%w: Key %q is outside Prefix %q", ErrInvalid, req.Key, req.Prefix)
		}
		return max(req.Prefix, req.Key), prefixEnd(req.Prefix), nil
	case req.Key != "" && req.End == "":
		return req.Key, req.Key + "\x00", nil
	}
	return req.Key, req.End, nil
}

func (m *machine) ranged(v *view, req *RangeRequest, from, end string) (RangeResult, error) {
	rev := req.Revision
	switch {
	case rev == 0:
		rev = v.rev
	case rev > v.rev:
		return RangeResult{}, ErrFutureRevision
	case rev < v.compacted:
		return RangeResult{}, ErrCompacted
	}
	res := RangeResult{Revision: rev}
	var found []*version
	v.root.ascend(from, func(key string, vers []*version) bool {
		if end != "" && key >= end {
			return false
		}
		x := at(vers, rev)
		if x == nil {
			return true
		}
		res.Count++
		switch {
		case req.CountOnly:
		case req.Limit > 0 && len(found) == req.Limit:
			res.More = true
		default:
			found = append(found, x)
		}
		return true
	})
	if req.KeysOnly {
		for _, x := range found {
			res.KVs = append(res.KVs, x.kv(nil))
		}
		return res, nil
	}
	if len(found) == 0 {
		return res, nil
	}
	kvs, err := m.read(found)
	res.KVs = kvs
	return res, err
}
