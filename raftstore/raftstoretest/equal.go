package raftstoretest

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/pintle/pintle/raftstore"
)

// SameKV compares everything; a nil and an empty value are the same.
func SameKV(a, b raftstore.KV) bool {
	return a.Key == b.Key && bytes.Equal(a.Value, b.Value) && a.CreateRevision == b.CreateRevision &&
		a.ModRevision == b.ModRevision && a.Version == b.Version && a.Lease == b.Lease
}

// SameEvent compares everything.
func SameEvent(a, b raftstore.Event) bool {
	return a.Type == b.Type && SameKV(a.KV, b.KV) && (a.Prev == nil) == (b.Prev == nil) &&
		(a.Prev == nil || SameKV(*a.Prev, *b.Prev))
}

// DiffRange says how two answers differ; "" if they don't.
func DiffRange(got, want raftstore.RangeResult) string {
	switch {
	case got.Revision != want.Revision || got.Count != want.Count || got.More != want.More:
		return fmt.Sprintf("revision %d, count %d, more %v; want %d, %d, %v",
			got.Revision, got.Count, got.More, want.Revision, want.Count, want.More)
	case !slices.EqualFunc(got.KVs, want.KVs, SameKV):
		return fmt.Sprintf("keys %v; want %v", got.KVs, want.KVs)
	}
	return ""
}

// DiffTxn says how two outcomes differ; "" if they do not.
func DiffTxn(got, want raftstore.TxnResult) string {
	if got.Succeeded != want.Succeeded || got.Revision != want.Revision || len(got.Results) != len(want.Results) {
		return fmt.Sprintf("succeeded %v at %d with %d results; want %v, %d, %d", got.Succeeded, got.Revision,
			len(got.Results), want.Succeeded, want.Revision, len(want.Results))
	}
	for i := range want.Results {
		g, w := got.Results[i], want.Results[i]
		if g.Deleted != w.Deleted || !slices.EqualFunc(g.KVs, w.KVs, SameKV) {
			return fmt.Sprintf("operation %d: %+v; want %+v", i, g, w)
		}
	}
	return ""
}
