package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/raftstore"
)

// Bytes beside an object (api.Kind.Bytes) lie under keys that the cache never reads,
//
//	/beside/<group|core>/<resource>/[<namespace>/]<name>/<id>/<number of the piece>
//
// The object names the id. New bytes are written piece by piece under an id of their own, each piece only while
// the object is there; the write of the object that names them takes all others away. An object's end takes all.
const (
	besideRoot = "/beside/"
	pieceSize  = 1 << 20
)

// besidePrefix begins the keys of everything beside one object.
func (c *resource) besidePrefix(key string) string {
	return besideRoot + resourcePath(c.kind.GVR()) + "/" + key + "/"
}

// forgotten deletes what obj no longer names, and everything where obj is nil.
func (c *resource) forgotten(key string, obj, old api.Object) []raftstore.Op {
	if c.kind.Bytes == nil {
		return nil
	}
	had, ok := c.kind.Bytes.Stored(old)
	if obj != nil {
		if has, still := c.kind.Bytes.Stored(obj); !ok || still && has == had {
			return nil
		}
	}
	return []raftstore.Op{{Type: raftstore.OpDeletePrefix, Key: c.besidePrefix(key)}}
}

func (r *Registry) withBytes(ctx context.Context, gvr schema.GroupVersionResource, name string) (*kindRef, error) {
	k, err := r.served(ctx, gvr)
	if err == nil && k.cache.kind.Bytes == nil {
		err = notFound(k.kind, name)
	}
	return k, err
}

// PutBytes replaces the bytes beside an object, all of them at once: a reader has the old ones or the new ones.
// Of two at the same time one is refused with a Conflict, and so is one whose object is replaced meanwhile.
func (r *Registry) PutBytes(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string, data []byte, opts UpdateOptions) (*Entry, error) {
	k, err := r.withBytes(ctx, gvr, name)
	if err != nil {
		return nil, err
	}
	cur := k.cache.get(entryKey(namespace, name))
	if cur == nil {
		return nil, notFound(k.kind, name)
	}
	sum := sha256.Sum256(data)
	stored := api.Stored{ID: string(uuid.NewUUID()), Digest: "sha256:" + hex.EncodeToString(sum[:]), Size: int64(len(data))}
	if len(data) > k.kind.Bytes.Max {
		return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", k.kind.Bytes.Max))
	}
	if err := invalid(k.kind, name, k.kind.Bytes.Validate(cur.obj, data, stored)); err != nil {
		return nil, err
	}
	if opts.DryRun {
		return r.nameBytes(ctx, k, cur, stored, 0, opts)
	}
	first, err := r.putPieces(ctx, k, cur.key, stored.ID, data, opts)
	var entry *Entry
	if err == nil {
		entry, err = r.nameBytes(ctx, k, cur, stored, first, opts)
	}
	if err != nil && !ambiguous(err) {
		// What nobody names goes; if that fails, the next upload or the object's end takes it.
		aside, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_, _ = r.cfg.Store.Txn(aside, raftstore.Txn{Then: []raftstore.Op{{Type: raftstore.OpDeletePrefix, Key: k.cache.besidePrefix(cur.key) + stored.ID + "/"}}})
	}
	return entry, err
}

// putPieces returns the revision of the first piece.
func (r *Registry) putPieces(ctx context.Context, k *kindRef, key, id string, data []byte, opts UpdateOptions) (first int64, err error) {
	prefix, object := k.cache.besidePrefix(key)+id+"/", k.cache.prefix+key
	for n := 0; n == 0 || n*pieceSize < len(data); n++ {
		res, err := r.cfg.Store.Txn(ctx, raftstore.Txn{
			If:   []raftstore.Compare{{Key: object, Target: raftstore.ModRevision, Relation: raftstore.Greater}},
			Then: []raftstore.Op{{Type: raftstore.OpPut, Key: fmt.Sprintf("%s%06d", prefix, n), Value: data[n*pieceSize : min(len(data), (n+1)*pieceSize)]}},
			Term: opts.Term,
		})
		if err != nil {
			return 0, storeError("write "+k.kind.Resource, err)
		}
		if !res.Succeeded {
			return 0, notFound(k.kind, key)
		}
		if n == 0 {
			first = res.Revision
		}
	}
	return first, nil
}

// nameBytes has the object name the bytes, and takes all others away.
func (r *Registry) nameBytes(ctx context.Context, k *kindRef, cur *Entry, stored api.Stored, first int64, opts UpdateOptions) (*Entry, error) {
	kind, uid := k.cache.kind, cur.obj.GetUID()
	prefix := k.cache.besidePrefix(cur.key)
	name := cur.obj.GetName()
	for attempt := 1; ; attempt++ {
		if cur = k.cache.get(cur.key); cur == nil {
			return nil, notFound(k.kind, name)
		}
		if now := cur.obj.GetUID(); now != uid {
			return nil, uidConflict(k.kind, name, uid, now)
		}
		obj := cur.obj.DeepCopyObject().(api.Object)
		kind.Bytes.Put(obj, stored)
		if err := r.admit(ctx, Request{Operation: OperationUpdate, Kind: kind, As: k.kind, Subresource: kind.Bytes.Subresource, Namespace: obj.GetNamespace(), Name: name,
			User: opts.User, Groups: opts.Groups, Object: obj, Old: cur.obj, DryRun: opts.DryRun}, opts.unquestioned); err != nil {
			return nil, err
		}
		if opts.DryRun {
			obj.SetResourceVersion(cur.obj.GetResourceVersion())
			return newEntry(obj, cur.key, 0).as(k.kind)
		}
		put, err := r.put(ctx, k, cur.key, obj)
		if err != nil {
			return nil, err
		}
		others, err := r.othersBeside(ctx, prefix, stored.ID)
		if err != nil {
			return nil, storeError("write "+k.kind.Resource, err)
		}
		piece := fmt.Sprintf("%s%s/%06d", prefix, stored.ID, 0)
		res, err := r.cfg.Store.Txn(ctx, raftstore.Txn{
			// Whoever was named meanwhile has taken our first piece away, if it was there before.
			If:   []raftstore.Compare{unchangedSince(put.Key, cur), {Key: piece, Target: raftstore.ModRevision, Int: first}},
			Then: append([]raftstore.Op{put}, others...),
			Else: []raftstore.Op{{Type: raftstore.OpGet, Key: piece}},
			Term: opts.Term,
		})
		if err != nil {
			return nil, storeError("write "+k.kind.Resource, err)
		}
		if err := r.WaitFor(ctx, res.Revision); err != nil {
			return nil, err
		}
		if res.Succeeded {
			return k.cache.written(cur.key, obj, res.Revision).as(k.kind)
		}
		if gone := len(res.Results) == 0 || len(res.Results[0].KVs) == 0; gone || attempt >= raceAttempts {
			return nil, conflict(k.kind, name)
		}
		if err := backOff(ctx, attempt); err != nil {
			return nil, err
		}
	}
}

func (r *Registry) othersBeside(ctx context.Context, prefix, id string) (ops []raftstore.Op, err error) {
	all, err := r.cfg.Store.Range(ctx, raftstore.RangeRequest{Prefix: prefix, KeysOnly: true})
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{id: true}
	for _, kv := range all.KVs {
		if other, _, _ := strings.Cut(strings.TrimPrefix(kv.Key, prefix), "/"); !seen[other] {
			seen[other] = true
			ops = append(ops, raftstore.Op{Type: raftstore.OpDeletePrefix, Key: prefix + other + "/"})
		}
	}
	return ops, nil
}

// Bytes returns what lies beside an object, from this member's state. NotFound where there is nothing.
func (r *Registry) Bytes(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string) ([]byte, api.Stored, error) {
	k, err := r.withBytes(ctx, gvr, name)
	if err != nil {
		return nil, api.Stored{}, err
	}
	for attempt := 1; ; attempt++ {
		cur := k.cache.get(entryKey(namespace, name))
		if cur == nil {
			return nil, api.Stored{}, notFound(k.kind, name)
		}
		stored, ok := k.kind.Bytes.Stored(cur.obj)
		if !ok {
			return nil, api.Stored{}, apierrors.NewNotFound(schema.GroupResource{Group: gvr.Group, Resource: gvr.Resource + "/" + k.kind.Bytes.Subresource}, name)
		}
		pieces, err := r.cfg.Store.Range(ctx, raftstore.RangeRequest{Prefix: k.cache.besidePrefix(cur.key) + stored.ID + "/", Local: true})
		if err != nil {
			return nil, stored, storeError("read "+k.kind.Resource, err)
		}
		data := make([]byte, 0, stored.Size)
		for _, kv := range pieces.KVs {
			data = append(data, kv.Value...)
		}
		if sum := sha256.Sum256(data); stored.Digest == "sha256:"+hex.EncodeToString(sum[:]) {
			return data, stored, nil
		}
		// The store is ahead of the cache: other bytes are named in a moment.
		if attempt >= raceAttempts {
			return nil, stored, apierrors.NewInternalError(errors.New("the bytes beside " + name + " are not those that it names: replace them"))
		}
		if err := backOff(ctx, attempt); err != nil {
			return nil, stored, err
		}
	}
}
