package apiserver

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pintle/pintle/orchestrator/registry"
)

// minWatch is how long a watch lasts that asks for no limit; up to as much again is added, so that
// clients don't all return at once.
const minWatch = 30 * time.Minute

// watchOptions translate a query. The one that is left to the caller is which revision to start from.
func (c *call) watchOptions() (registry.WatchOptions, metav1.ListOptions, error) {
	opts, selector, fieldSelector, err := listOptions(c.query, true)
	if err != nil {
		return registry.WatchOptions{}, opts, err
	}
	if err := c.checkFields(fieldSelector); err != nil {
		return registry.WatchOptions{}, opts, err
	}
	out := registry.WatchOptions{Namespace: c.namespace, Selector: selector, Fields: fieldSelector, Bookmarks: opts.AllowWatchBookmarks}
	if opts.ResourceVersion != "" {
		revision, err := strconv.ParseInt(opts.ResourceVersion, 10, 64)
		if err != nil || revision < 0 {
			return out, opts, invalidOptions("ListOptions", field.ErrorList{
				field.Invalid(field.NewPath("resourceVersion"), opts.ResourceVersion, "must be a number that the server gave")})
		}
		out.FromRevision = revision
	}
	out.InitialEvents = out.FromRevision == 0
	if opts.SendInitialEvents != nil {
		out.InitialEvents = *opts.SendInitialEvents
	}
	return out, opts, nil
}

func (c *call) watch(w http.ResponseWriter, r *http.Request) error {
	neg, err := negotiate(r.Header.Get("Accept"), c.query, []string{asTable, asPartial})
	if err != nil {
		return err
	}
	if neg.format == formatYAML {
		return errNotAcceptable(mediaJSON + ", " + mediaProtobuf)
	}
	if c.name != "" { // the old path /watch/…/NAME
		if c.query.Get("fieldSelector") != "" {
			return apierrors.NewBadRequest("fieldSelector may not be given with a name")
		}
		c.query.Set("fieldSelector", "metadata.name="+c.name)
	}
	watchOpts, opts, err := c.watchOptions()
	if err != nil {
		return err
	}
	flusher := http.NewResponseController(w)
	timeout := minWatch + time.Duration(rand.Int64N(int64(minWatch)))
	if opts.TimeoutSeconds != nil && *opts.TimeoutSeconds > 0 {
		timeout = time.Duration(min(*opts.TimeoutSeconds, math.MaxInt32)) * time.Second
	}
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	watcher, err := c.registry.Watch(ctx, c.gvr, watchOpts)
	if err != nil && !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
		return err
	}
	contentType := mediaJSON
	if neg.format == formatProtobuf {
		contentType = mediaProtobuf + ";stream=watch"
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-cache, private")
	w.WriteHeader(http.StatusOK)
	out := &watchWriter{call: c, w: w, neg: neg, markInitial: opts.SendInitialEvents != nil && *opts.SendInitialEvents, bookmarks: opts.AllowWatchBookmarks}
	if err != nil { // too old: clients look for the error in the stream
		_ = out.fail(err)
		return nil
	}
	defer watcher.Stop()
	if flusher.Flush() != nil {
		return nil
	}
	c.pump(ctx, watcher, out, flusher)
	_ = flusher.SetWriteDeadline(time.Time{}) // the connection may carry another request
	return nil
}

// pump writes events until the watch, the client or the server ends. It flushes when no further
// event is waiting, so that bursts leave in few packets.
func (c *call) pump(ctx context.Context, watcher *registry.Watcher, out *watchWriter, flusher *http.ResponseController) {
	events := watcher.Events()
	for {
		select {
		case event, ok := <-events:
			if !ok {
				if err := watcher.Err(); err != nil && ctx.Err() == nil {
					_ = out.fail(err)
					_ = flusher.Flush()
				}
				return
			}
			// A client that reads nothing must not hold the watch, which then sees neither its end nor the server's.
			_ = flusher.SetWriteDeadline(time.Now().Add(requestTimeout))
			if err := out.event(event); err != nil {
				if ctx.Err() == nil {
					c.log.DebugContext(ctx, "watch ended", "resource", c.gvr.String(), "error", err)
				}
				return
			}
			if len(events) == 0 && flusher.Flush() != nil {
				return
			}
		case <-ctx.Done():
			return
		case <-c.stopping:
			return
		}
	}
}

// watchWriter turns events into frames.
type watchWriter struct {
	*call
	w           http.ResponseWriter
	neg         negotiated
	markInitial bool // the client asked for the bookmark that ends the initial events
	bookmarks   bool
	sentColumns bool
}

func (o *watchWriter) event(e registry.Event) error {
	var raw []byte
	var err error
	if e.Type == watch.Bookmark {
		if !o.bookmarks || e.InitialEventsEnd && !o.markInitial {
			return nil
		}
		raw, err = o.bookmark(e)
	} else {
		raw, err = o.object(e.Entry)
	}
	if err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	return o.frame(string(e.Type), raw)
}

func (o *watchWriter) object(entry *registry.Entry) ([]byte, error) {
	switch o.neg.as {
	case asTable:
		table, err := o.table([]*registry.Entry{entry}, !o.sentColumns)
		if err != nil {
			return nil, err
		}
		o.sentColumns = true
		table.ResourceVersion = entry.Object().GetResourceVersion()
		return mustJSON(table), nil
	case asPartial:
		if o.neg.format == formatProtobuf {
			return protobufBytes(partial(entry), metav1.SchemeGroupVersion.WithKind(asPartial))
		}
		return marshalPartial(entry)
	}
	if o.neg.format == formatProtobuf {
		return o.protobufEntry(entry)
	}
	return entry.JSON(), nil
}

// bookmark is an object with nothing but a revision, and the mark that informers wait for.
func (o *watchWriter) bookmark(e registry.Event) ([]byte, error) {
	objectMeta := metav1.ObjectMeta{ResourceVersion: strconv.FormatInt(e.Revision, 10)}
	if e.InitialEventsEnd {
		objectMeta.Annotations = map[string]string{metav1.InitialEventsAnnotationKey: "true"}
	}
	gvk := o.kind.GroupVersionKind
	switch {
	case o.neg.as == asTable:
		row := metav1.TableRow{Cells: []any{}, Object: runtime.RawExtension{Raw: mustJSON(metav1.PartialObjectMetadata{
			TypeMeta: metav1.TypeMeta{Kind: asPartial, APIVersion: "meta.k8s.io/v1"}, ObjectMeta: objectMeta})}}
		return mustJSON(metav1.Table{TypeMeta: metav1.TypeMeta{Kind: asTable, APIVersion: "meta.k8s.io/v1"},
			ListMeta: metav1.ListMeta{ResourceVersion: objectMeta.ResourceVersion}, ColumnDefinitions: []metav1.TableColumnDefinition{}, Rows: []metav1.TableRow{row}}), nil
	case o.neg.as == asPartial:
		gvk = schema.GroupVersionKind{Group: metav1.GroupName, Version: "v1", Kind: asPartial}
		if o.neg.format == formatProtobuf {
			return protobufBytes(&metav1.PartialObjectMetadata{ObjectMeta: objectMeta}, gvk)
		}
	case o.neg.format == formatProtobuf:
		obj := o.kind.New()
		obj.SetResourceVersion(objectMeta.ResourceVersion)
		obj.SetAnnotations(objectMeta.Annotations)
		return protobufBytes(obj, gvk)
	}
	apiVersion, kind := gvk.ToAPIVersionAndKind()
	return mustJSON(metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{Kind: kind, APIVersion: apiVersion}, ObjectMeta: objectMeta}), nil
}

// fail ends the stream with what went wrong, as a client expects it.
func (o *watchWriter) fail(err error) error {
	status := statusOf(err)
	if o.neg.format == formatProtobuf {
		raw, err := protobufBytes(status, schema.GroupVersionKind{Version: "v1", Kind: "Status"})
		if err != nil {
			return err
		}
		return o.frame(string(watch.Error), raw)
	}
	return o.frame(string(watch.Error), mustJSON(status))
}

func (o *watchWriter) frame(kind string, object []byte) error {
	var frame []byte
	if o.neg.format == formatProtobuf {
		event := metav1.WatchEvent{Type: kind, Object: runtime.RawExtension{Raw: object}}
		raw, err := event.Marshal()
		if err != nil {
			return err
		}
		frame = binary.BigEndian.AppendUint32(make([]byte, 0, len(raw)+4), uint32(len(raw)))
		frame = append(frame, raw...)
	} else {
		frame = append(frame, `{"type":"`...)
		frame = append(frame, kind...)
		frame = append(frame, `","object":`...)
		for len(object) > 0 && object[len(object)-1] == '\n' {
			object = object[:len(object)-1]
		}
		frame = append(append(frame, object...), "}\n"...)
	}
	_, err := o.w.Write(frame)
	return err
}
