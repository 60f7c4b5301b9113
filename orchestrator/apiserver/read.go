package apiserver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pintle/pintle/orchestrator/registry"
)

func (c *call) get(w http.ResponseWriter, r *http.Request) error {
	neg, err := negotiate(r.Header.Get("Accept"), c.query, []string{asTable, asPartial})
	if err != nil {
		return err
	}
	if err := c.registry.Reach(r.Context(), c.query.Get("resourceVersion")); err != nil {
		return err
	}
	entry, err := c.registry.Get(r.Context(), c.gvr, c.namespace, c.name)
	if err != nil {
		return err
	}
	return c.writeEntry(w, r, http.StatusOK, entry, neg)
}

// writeEntry answers with one stored object: its cached bytes where they are what was asked for.
func (c *call) writeEntry(w http.ResponseWriter, r *http.Request, code int, entry *registry.Entry, neg negotiated) error {
	switch neg.as {
	case asTable:
		table, err := c.table([]*registry.Entry{entry}, true)
		if err != nil {
			return err
		}
		table.ResourceVersion = entry.Object().GetResourceVersion()
		return c.writeObject(w, r, code, table, neg)
	case asPartial:
		return c.writeObject(w, r, code, partial(entry), neg)
	}
	raw, err := c.entryBytes(entry, neg)
	if err != nil {
		return err
	}
	return writeRaw(w, r, code, neg.format.mediaType(), raw)
}

func (c *call) entryBytes(entry *registry.Entry, neg negotiated) ([]byte, error) {
	if neg.format == formatProtobuf {
		return c.protobufEntry(entry)
	}
	return fromJSON(entry.JSON(), neg)
}

// listOptions reads the query of a list, a watch or a deletecollection.
func listOptions(query url.Values, watching bool) (metav1.ListOptions, labels.Selector, fields.Selector, error) {
	var opts metav1.ListOptions
	if err := metav1.Convert_url_Values_To_v1_ListOptions(&query, &opts, nil); err != nil {
		return opts, nil, nil, apierrors.NewBadRequest(err.Error())
	}
	selector, err := labels.Parse(opts.LabelSelector)
	if err != nil {
		return opts, nil, nil, apierrors.NewBadRequest(fmt.Sprintf("unable to parse labelSelector: %v", err))
	}
	fieldSelector, err := fields.ParseSelector(opts.FieldSelector)
	if err != nil {
		return opts, nil, nil, apierrors.NewBadRequest(fmt.Sprintf("unable to parse fieldSelector: %v", err))
	}
	if opts.Limit < 0 {
		return opts, nil, nil, apierrors.NewBadRequest("limit: must not be negative")
	}
	opts.Watch = watching
	if err := invalidOptions("ListOptions", validation.ValidateListOptions(&internalversion.ListOptions{
		Watch: watching, ResourceVersion: opts.ResourceVersion, ResourceVersionMatch: opts.ResourceVersionMatch,
		Continue: opts.Continue, SendInitialEvents: opts.SendInitialEvents,
	}, true)); err != nil {
		return opts, nil, nil, err
	}
	if selector.Empty() {
		selector = nil
	}
	if fieldSelector.Empty() {
		fieldSelector = nil
	}
	return opts, selector, fieldSelector, nil
}

// selectedName is the one name that a field selector leaves, "" if it leaves several.
func selectedName(selector string) string {
	parsed, err := fields.ParseSelector(selector)
	if err != nil {
		return ""
	}
	name, _ := parsed.RequiresExactMatch("metadata.name")
	return name
}

// checkFields refuses field labels that the kind doesn't have, as Kubernetes words it.
func (c *call) checkFields(selector fields.Selector) error {
	if selector == nil {
		return nil
	}
	known := fields.Set{}
	if c.kind.Fields != nil {
		known = c.kind.Fields(c.kind.New())
	}
	for _, requirement := range selector.Requirements() {
		if _, ok := known[requirement.Field]; !ok && requirement.Field != "metadata.name" && (requirement.Field != "metadata.namespace" || !c.kind.Namespaced) {
			if c.kind.Fields == nil {
				return apierrors.NewBadRequest(fmt.Sprintf(`%q is not a known field selector: only "metadata.name", "metadata.namespace"`, requirement.Field))
			}
			return apierrors.NewBadRequest("field label not supported: " + requirement.Field)
		}
	}
	return nil
}

func (c *call) list(w http.ResponseWriter, r *http.Request) error {
	neg, err := negotiate(r.Header.Get("Accept"), c.query, []string{asTable, asPartialList})
	if err != nil {
		return err
	}
	opts, selector, fieldSelector, err := listOptions(c.query, false)
	if err != nil {
		return err
	}
	if err := c.checkFields(fieldSelector); err != nil {
		return err
	}
	list, err := c.registry.List(r.Context(), c.gvr, c.namespace, registry.ListOptions{
		Selector: selector, Fields: fieldSelector, Limit: opts.Limit, Continue: opts.Continue,
		ResourceVersion: opts.ResourceVersion, ResourceVersionMatch: opts.ResourceVersionMatch,
	})
	if err != nil {
		return err
	}
	return c.writeList(w, r, list, neg)
}

func (c *call) writeList(w http.ResponseWriter, r *http.Request, list registry.ListResult, neg negotiated) error {
	listMeta := metav1.ListMeta{ResourceVersion: strconv.FormatInt(list.Revision, 10), Continue: list.Continue, RemainingItemCount: list.Remaining}
	switch {
	case neg.as == asTable:
		table, err := c.table(list.Entries, true)
		if err != nil {
			return err
		}
		table.ListMeta = listMeta
		return c.writeObject(w, r, http.StatusOK, table, neg)
	case neg.as == asPartialList:
		out := &metav1.PartialObjectMetadataList{TypeMeta: metav1.TypeMeta{Kind: asPartialList, APIVersion: "meta.k8s.io/v1"}, ListMeta: listMeta, Items: []metav1.PartialObjectMetadata{}}
		for _, entry := range list.Entries {
			out.Items = append(out.Items, *partial(entry))
		}
		return c.writeObject(w, r, http.StatusOK, out, neg)
	case neg.format == formatProtobuf:
		raw, err := c.protobufList(list.Entries, listMeta)
		if err != nil {
			return err
		}
		return writeRaw(w, r, http.StatusOK, mediaProtobuf, raw)
	}
	raw, err := fromJSON(c.jsonList(list.Entries, listMeta), neg)
	if err != nil {
		return err
	}
	return writeRaw(w, r, http.StatusOK, neg.format.mediaType(), raw)
}

func (c *call) listGVK() schema.GroupVersionKind {
	return c.kind.GroupVersionKind.GroupVersion().WithKind(c.kind.GroupVersionKind.Kind + "List")
}

// jsonList joins the cached encodings: nothing is encoded again for a reader.
func (c *call) jsonList(entries []*registry.Entry, listMeta metav1.ListMeta) []byte {
	size := 256
	for _, entry := range entries {
		size += len(entry.JSON()) + 1
	}
	apiVersion, kind := c.listGVK().ToAPIVersionAndKind()
	buf := bytes.NewBuffer(make([]byte, 0, size))
	fmt.Fprintf(buf, `{"kind":%q,"apiVersion":%q,"metadata":%s,"items":[`, kind, apiVersion, mustJSON(listMeta))
	for i, entry := range entries {
		if i > 0 {
			buf.WriteByte(',')
		}
		buf.Write(bytes.TrimRight(entry.JSON(), "\n"))
	}
	buf.WriteString("]}\n")
	return buf.Bytes()
}

// partial is an object's metadata alone. The entry is shared: metadata is read, never changed.
func partial(entry *registry.Entry) *metav1.PartialObjectMetadata {
	out := meta.AsPartialObjectMetadata(entry.Object())
	out.TypeMeta = metav1.TypeMeta{Kind: asPartial, APIVersion: "meta.k8s.io/v1"}
	return out
}

func marshalPartial(entry *registry.Entry) ([]byte, error) { return json.Marshal(partial(entry)) }
