package apiserver

import (
	"context"
	"encoding/json"
	"net/http"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/apiserver/authz"
	"github.com/pintle/pintle/orchestrator/registry"
)

// maxAttempts bounds how often a write that names no resourceVersion is tried on a newer object.
const maxAttempts = 10

// readObject reads the body as an object of the call's kind that fits the URL.
func (c *call) readObject(w http.ResponseWriter, r *http.Request, v fieldValidation) (api.Object, error) {
	f, err := bodyFormat(r)
	if err != nil {
		return nil, err
	}
	raw, err := readBody(w, r)
	if err != nil {
		return nil, err
	}
	obj := c.kind.New()
	if err := c.codecs.decode(w, raw, f, c.kind.GroupVersionKind, obj, v); err != nil {
		return nil, err
	}
	return obj, c.checkIdentity(obj)
}

func (c *call) setDefaults(obj api.Object) {
	if c.kind.Default != nil {
		c.kind.Default(obj)
	}
}

// checkEscalation refuses grants of what the user doesn't hold; kinds other than RBAC's pass.
func (c *call) checkEscalation(ctx context.Context, obj, old api.Object) error {
	if old == nil {
		return authz.CheckEscalation(ctx, c.user, c.cfg.Authorizer, c.cfg.RBAC, obj, nil)
	}
	return authz.CheckEscalation(ctx, c.user, c.cfg.Authorizer, c.cfg.RBAC, obj, old)
}

func (c *call) create(w http.ResponseWriter, r *http.Request) error {
	neg, err := negotiate(r.Header.Get("Accept"), c.query, []string{asTable, asPartial})
	if err != nil {
		return err
	}
	opts, err := c.writeOptions(r, createOptionsKind)
	if err != nil {
		return err
	}
	obj, err := c.readObject(w, r, opts.validation)
	if err != nil {
		return err
	}
	entry, err := c.store(r.Context(), obj, opts)
	if err != nil {
		return err
	}
	return c.writeEntry(w, r, http.StatusCreated, entry, neg)
}

// store creates an object that came with a create.
func (c *call) store(ctx context.Context, obj api.Object, opts writeOptions) (*registry.Entry, error) {
	c.setDefaults(obj)
	obj = c.track(c.kind.New(), obj, "", opts.manager)
	if err := c.restrictNode(ctx, obj); err != nil {
		return nil, err
	}
	if err := c.checkEscalation(ctx, obj, nil); err != nil {
		return nil, err
	}
	return c.registry.Create(ctx, c.gvr, obj, c.createOptions(opts))
}

func (c *call) update(w http.ResponseWriter, r *http.Request, subresource string) error {
	neg, err := negotiate(r.Header.Get("Accept"), c.query, []string{asTable, asPartial})
	if err != nil {
		return err
	}
	opts, err := c.writeOptions(r, updateOptionsKind)
	if err != nil {
		return err
	}
	obj, err := c.readObject(w, r, opts.validation)
	if err != nil {
		return err
	}
	c.setDefaults(obj)
	entry, err := c.modify(r.Context(), subresource, opts, func(api.Object) (api.Object, error) {
		if c.kind.MustNameVersion && obj.GetResourceVersion() == "" {
			return nil, apierrors.NewInvalid(c.kind.GroupVersionKind.GroupKind(), c.name, field.ErrorList{
				field.Invalid(field.NewPath("metadata", "resourceVersion"), 0, "must be specified for an update")})
		}
		return obj.DeepCopyObject().(api.Object), nil
	})
	status := http.StatusOK
	if apierrors.IsNotFound(err) && subresource == "" && c.kind.CreateOnUpdate && obj.GetUID() == "" && obj.GetResourceVersion() == "" {
		status = http.StatusCreated
		if err = c.mayCreate(r.Context()); err == nil {
			entry, err = c.store(r.Context(), obj, opts)
		}
	}
	if err != nil {
		return err
	}
	return c.writeEntry(w, r, status, entry, neg)
}

// mayCreate refuses who may update or apply an object, and may not create the one that isn't there.
func (c *call) mayCreate(ctx context.Context) error {
	attributes := c.info.attributes(c.user)
	attributes.Verb = "create"
	if allowed, reason, _ := c.cfg.Authorizer.Authorize(ctx, attributes); !allowed {
		return authz.Forbidden(attributes, reason)
	}
	return nil
}

// modify reads the object, changes a copy of it and writes that back. Where the change names no
// resourceVersion, it is made again on the newer object when another writer was faster; where it
// does, the writer gets the conflict.
func (c *call) modify(ctx context.Context, subresource string, opts writeOptions, change func(live api.Object) (api.Object, error)) (*registry.Entry, error) {
	for attempt := 1; ; attempt++ {
		entry, err := c.registry.Get(ctx, c.gvr, c.namespace, c.name)
		if err != nil {
			return nil, err
		}
		live := entry.Object()
		obj, err := change(live)
		if err != nil {
			return nil, err
		}
		unconditional := obj.GetResourceVersion() == ""
		if unconditional {
			obj.SetResourceVersion(live.GetResourceVersion())
		}
		if subresource != subScale { // whose change has done that
			obj = c.track(live, obj, subresource, opts.manager)
		}
		updated, err := c.write(ctx, subresource, opts, obj, live)
		if unconditional && apierrors.IsConflict(err) && attempt < maxAttempts {
			continue
		}
		return updated, err
	}
}

func (c *call) write(ctx context.Context, subresource string, opts writeOptions, obj, live api.Object) (*registry.Entry, error) {
	if err := c.checkEscalation(ctx, obj, live); err != nil {
		return nil, err
	}
	if err := c.restrictSecretChange(obj, live); err != nil {
		return nil, err
	}
	return c.registry.Update(ctx, c.gvr, subresource, obj, c.updateOptions(opts))
}

// deleteOptions come in the body or in the query.
func (c *call) deleteOptions(w http.ResponseWriter, r *http.Request) (metav1.DeleteOptions, error) {
	var opts metav1.DeleteOptions
	raw, err := readBody(w, r)
	if err != nil {
		return opts, err
	}
	if len(raw) > 0 {
		f, err := bodyFormat(r)
		if err != nil {
			return opts, err
		}
		want := schema.GroupVersionKind{Version: "v1", Kind: "DeleteOptions"}
		if f == formatProtobuf {
			if _, _, err := c.codecs.protobuf.Decode(raw, &want, &opts); err != nil {
				return opts, apierrors.NewBadRequest("cannot decode the delete options: " + err.Error())
			}
		} else {
			if f == formatYAML {
				if raw, err = yamlToJSON(raw); err != nil {
					return opts, apierrors.NewBadRequest("cannot decode the delete options: " + err.Error())
				}
			}
			if err := json.Unmarshal(raw, &opts); err != nil {
				return opts, apierrors.NewBadRequest("cannot decode the delete options: " + err.Error())
			}
			if opts.Kind != "" && opts.Kind != want.Kind {
				return opts, apierrors.NewBadRequest("decoded object cannot be converted to DeleteOptions: it is a " + opts.Kind)
			}
		}
	} else if err := metav1.Convert_url_Values_To_v1_DeleteOptions(&c.query, &opts, nil); err != nil {
		return opts, apierrors.NewBadRequest(err.Error())
	}
	return opts, invalidOptions(deleteOptionsKind, validation.ValidateDeleteOptions(&opts))
}

func (c *call) delete(w http.ResponseWriter, r *http.Request) error {
	neg, err := negotiate(r.Header.Get("Accept"), c.query, []string{asTable, asPartial})
	if err != nil {
		return err
	}
	opts, err := c.deleteOptions(w, r)
	if err != nil {
		return err
	}
	entry, gone, err := c.registry.Delete(r.Context(), c.gvr, c.namespace, c.name, opts, c.user.Name, c.user.Groups...)
	if err != nil {
		return err
	}
	if gone || entry == nil {
		status := &metav1.Status{
			TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess,
			Details: &metav1.StatusDetails{Name: c.name, Group: c.gvr.Group, Kind: c.gvr.Resource},
		}
		if entry != nil {
			status.Details.UID = entry.Object().GetUID()
		}
		return c.writeObject(w, r, http.StatusOK, status, neg)
	}
	return c.writeEntry(w, r, http.StatusOK, entry, neg)
}

// deletesAtOnce is how many objects of a collection are being deleted at the same time.
const deletesAtOnce = 16

// deleteCollection deletes what the selectors choose, each by itself: objects that appear meanwhile stay.
func (c *call) deleteCollection(w http.ResponseWriter, r *http.Request) error {
	neg, err := negotiate(r.Header.Get("Accept"), c.query, []string{asTable, asPartialList})
	if err != nil {
		return err
	}
	listOpts, selector, fieldSelector, err := listOptions(c.query, false)
	if err != nil {
		return err
	}
	if err := c.checkFields(fieldSelector); err != nil {
		return err
	}
	opts, err := c.deleteOptions(w, r)
	if err != nil {
		return err
	}
	list, err := c.registry.List(r.Context(), c.gvr, c.namespace, registry.ListOptions{
		Selector: selector, Fields: fieldSelector, Limit: listOpts.Limit, Continue: listOpts.Continue,
	})
	if err != nil {
		return err
	}
	// Several at a time, so that they share the store's fsyncs.
	group, ctx := errgroup.WithContext(r.Context())
	group.SetLimit(deletesAtOnce)
	for _, entry := range list.Entries {
		group.Go(func() error {
			obj := entry.Object()
			_, _, err := c.registry.Delete(ctx, c.gvr, obj.GetNamespace(), obj.GetName(), opts, c.user.Name, c.user.Groups...)
			if apierrors.IsNotFound(err) {
				return nil
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return c.writeList(w, r, list, neg)
}
