package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/raftstore"
)

type gvr = schema.GroupVersionResource

// kindRef is a kind as it is asked for, and the cache of the kind that it is stored as.
type kindRef struct {
	kind  *api.Kind
	cache *resource
}

// freshPatience is how long a read waits for a resourceVersion that has not been reached.
const freshPatience = 3 * time.Second

// Get returns one object, from the cache. NotFound if it is not there.
func (r *Registry) Get(ctx context.Context, gvr schema.GroupVersionResource, namespace, name string) (*Entry, error) {
	k, err := r.served(ctx, gvr)
	if err != nil {
		return nil, err
	}
	e := k.cache.get(entryKey(namespace, name))
	if e == nil {
		return nil, notFound(k.kind, name)
	}
	return e.as(k.kind)
}

// Owned returns the objects that name owner in an ownerReference.
func (r *Registry) Owned(ctx context.Context, gvr schema.GroupVersionResource, owner types.UID) ([]*Entry, error) {
	return r.indexed(ctx, gvr, func(c *resource) []*Entry { return c.owned(owner) })
}

// Orphans returns the objects of a namespace that no controller owns, in the order of their names.
func (r *Registry) Orphans(ctx context.Context, gvr schema.GroupVersionResource, namespace string) ([]*Entry, error) {
	return r.indexed(ctx, gvr, func(c *resource) []*Entry { return c.orphaned(namespace) })
}

func (r *Registry) indexed(ctx context.Context, gvr schema.GroupVersionResource, find func(*resource) []*Entry) ([]*Entry, error) {
	k, err := r.served(ctx, gvr)
	if err != nil {
		return nil, err
	}
	entries := find(k.cache)
	for i, e := range entries {
		if entries[i], err = e.as(k.kind); err != nil {
			return nil, err
		}
	}
	return entries, nil
}

// continuation is what ListResult.Continue holds.
type continuation struct {
	Revision int64  `json:"rv"`
	After    string `json:"after"` // the last key of the page before
}

// anyRevision is in the token that comes with an expired one: it goes on with what is there now.
const anyRevision = -1

// expiredContinue is the 410 of a list whose beginning is too old, with a token for who would rather
// have an inconsistent rest than begin again.
func expiredContinue(after string) error {
	err := apierrors.NewResourceExpired("The provided continue parameter is too old to display a consistent list result. " +
		"You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. " +
		"Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted " +
		"between the time the first chunk was returned and now may show up in the list.")
	err.ErrStatus.ListMeta.Continue = continuation{Revision: anyRevision, After: after}.String()
	return err
}

func (c continuation) String() string {
	b, _ := json.Marshal(c) // an int and a string
	return base64.RawURLEncoding.EncodeToString(b)
}

func parseContinue(token string) (c continuation, err error) {
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err != nil || c.Revision <= 0 && c.Revision != anyRevision || c.After == "" {
		return c, apierrors.NewBadRequest("continue key is not valid")
	}
	return c, nil
}

// List returns objects in the order of namespace and name, from the cache. Every page of a list that is
// asked for in pages holds at the revision of the first; 410 Expired when the store has forgotten it.
func (r *Registry) List(ctx context.Context, gvr schema.GroupVersionResource, namespace string, opts ListOptions) (ListResult, error) {
	k, err := r.served(ctx, gvr)
	if err != nil {
		return ListResult{}, err
	}
	match, err := matcher(k.kind, opts.Selector, opts.Fields)
	if err != nil {
		return ListResult{}, err
	}
	at, from, err := r.listAt(ctx, opts)
	if err != nil {
		return ListResult{}, err
	}
	before := r.Revision()
	entries, lastMod := k.cache.candidates(namespace, opts.Selector)
	result := ListResult{Revision: max(before, lastMod)}
	if at > 0 {
		result.Revision = at
		if lastMod > at {
			if entries, err = r.past(ctx, k.cache, namespace, at); err != nil {
				if opts.Continue != "" && apierrors.IsResourceExpired(err) {
					err = expiredContinue(from)
				}
				return ListResult{}, err
			}
		}
	}
	for n, e := range entries {
		if e.key <= from {
			continue
		}
		if e, err = e.as(k.kind); err != nil {
			return ListResult{}, err
		}
		if match != nil && !match(e) {
			continue
		}
		if opts.Limit > 0 && int64(len(result.Entries)) == opts.Limit {
			last := result.Entries[len(result.Entries)-1].key
			result.Continue = continuation{Revision: result.Revision, After: last}.String()
			if match == nil {
				left := int64(len(entries) - n)
				result.Remaining = &left
			}
			break
		}
		result.Entries = append(result.Entries, e)
	}
	return result, nil
}

// listAt is the revision that a list must have (0: now) and the key that it begins after.
func (r *Registry) listAt(ctx context.Context, opts ListOptions) (at int64, after string, err error) {
	if opts.Continue != "" {
		if opts.ResourceVersion != "" && opts.ResourceVersion != "0" {
			return 0, "", apierrors.NewBadRequest("specifying resource version is not allowed when using continue")
		}
		c, err := parseContinue(opts.Continue)
		if err != nil {
			return 0, "", err
		}
		if c.Revision == anyRevision {
			return 0, c.After, nil
		}
		return c.Revision, c.After, r.waitFresh(ctx, c.Revision)
	}
	if opts.ResourceVersion == "" {
		if opts.ResourceVersionMatch != "" {
			return 0, "", apierrors.NewBadRequest("resourceVersionMatch is forbidden unless resourceVersion is provided")
		}
		return 0, "", nil
	}
	revision, err := parseRevision(opts.ResourceVersion)
	if err != nil {
		return 0, "", err
	}
	switch opts.ResourceVersionMatch {
	case metav1.ResourceVersionMatchExact:
		if revision == 0 {
			return 0, "", apierrors.NewBadRequest(`resourceVersionMatch "exact" is forbidden for resourceVersion "0"`)
		}
		at = revision
	case "":
		if opts.Limit > 0 {
			at = revision // as Kubernetes reads a page that names a version and no match
		}
	case metav1.ResourceVersionMatchNotOlderThan:
	default:
		return 0, "", apierrors.NewBadRequest("unknown resourceVersionMatch " + strconv.Quote(string(opts.ResourceVersionMatch)))
	}
	return at, "", r.waitFresh(ctx, revision)
}

func parseRevision(resourceVersion string) (int64, error) {
	revision, err := strconv.ParseInt(resourceVersion, 10, 64)
	if err != nil || revision < 0 {
		return 0, apierrors.NewBadRequest("invalid resource version: Invalid value: " + strconv.Quote(resourceVersion) + ": resourceVersion must be a number")
	}
	return revision, nil
}

// Reach waits for a resourceVersion that a client has seen, for a while: what is read after that is not
// older. "" and "0" are any. A BadRequest for what is no resourceVersion, a Timeout for one not reached.
func (r *Registry) Reach(ctx context.Context, resourceVersion string) error {
	if resourceVersion == "" {
		return nil
	}
	revision, err := parseRevision(resourceVersion)
	if err != nil {
		return err
	}
	return r.waitFresh(ctx, revision)
}

// waitFresh waits for a revision that a client has seen, for a while.
func (r *Registry) waitFresh(ctx context.Context, revision int64) error {
	if r.Revision() >= revision {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, freshPatience)
	defer cancel()
	err := r.WaitFor(limited, revision)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		return tooLargeVersion(revision, r.Revision())
	}
	return err
}

// past reads a resource as it was. Versions that are still current are taken from the cache.
func (r *Registry) past(ctx context.Context, c *resource, namespace string, at int64) ([]*Entry, error) {
	prefix := c.prefix
	if namespace != "" {
		prefix += namespace + "/"
	}
	res, err := r.cfg.Store.Range(ctx, raftstore.RangeRequest{Prefix: prefix, Revision: at})
	if err != nil {
		return nil, storeError("list "+c.kind.Resource, err)
	}
	entries := make([]*Entry, 0, len(res.KVs))
	for _, kv := range res.KVs {
		key := kv.Key[len(c.prefix):]
		if e := c.get(key); e != nil && e.revision == kv.ModRevision {
			entries = append(entries, e)
			continue
		}
		e, err := r.decode(c, key, kv)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// matcher is nil when everything matches.
func matcher(kind *api.Kind, sel labels.Selector, fs fields.Selector) (func(*Entry) bool, error) {
	byLabel, byField := sel != nil && !sel.Empty(), fs != nil && !fs.Empty()
	if !byLabel && !byField {
		return nil, nil
	}
	if byField {
		known := fields.Set{}
		if kind.Fields != nil {
			known = kind.Fields(kind.New())
		}
		for _, q := range fs.Requirements() {
			if _, ok := known[q.Field]; !ok && q.Field != "metadata.name" && q.Field != "metadata.namespace" {
				return nil, apierrors.NewBadRequest("field label not supported: " + q.Field)
			}
		}
	}
	return func(e *Entry) bool {
		if byLabel && !sel.Matches(labels.Set(e.obj.GetLabels())) {
			return false
		}
		return !byField || fs.Matches(fieldsOf{kind, e})
	}, nil
}

// fieldsOf answers a field selector without making a map where a name is all that is asked for.
type fieldsOf struct {
	kind *api.Kind
	e    *Entry
}

func (f fieldsOf) Has(field string) bool { return true } // matcher has checked that the kind has it

func (f fieldsOf) Get(field string) string {
	switch field {
	case "metadata.name":
		return f.e.obj.GetName()
	case "metadata.namespace":
		return f.e.obj.GetNamespace()
	}
	return f.kind.Fields(f.e.obj)[field]
}
