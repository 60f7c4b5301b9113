package api

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func coreEventKind() *Kind {
	return &Kind{
		GroupVersionKind: corev1.SchemeGroupVersion.WithKind("Event"),
		Resource:         "events", Singular: "event", ShortNames: []string{"ev"}, Namespaced: true, CreateOnUpdate: true,
		New:     func() Object { return &corev1.Event{} },
		NewList: func() runtime.Object { return &corev1.EventList{} },
		Default: of(func(e *corev1.Event) {
			setZero(&e.Type, corev1.EventTypeNormal)
		}),
		Validate: check(validateEvent),
		Columns:  eventColumns(),
		Row:      row(eventRow),
		Fields:   func(o Object) fields.Set { return eventFields(o.(*corev1.Event)) },
	}
}

// validateEvent holds every event to its object's namespace, and those of the newer shape, which have an
// eventTime, to what events.k8s.io documents as required.
func validateEvent(e *corev1.Event) (errs field.ErrorList) {
	if about := e.InvolvedObject.Namespace; about != "" && about != e.Namespace {
		errs = append(errs, field.Invalid(field.NewPath("involvedObject", "namespace"), about, "does not match event.namespace"))
	}
	if e.EventTime.IsZero() {
		return errs
	}
	errs = append(errs, required(e.ReportingController, field.NewPath("reportingController"), "")...)
	if e.ReportingController != "" {
		errs = append(errs, invalid(validation.IsQualifiedName(e.ReportingController), field.NewPath("reportingController"), e.ReportingController)...)
	}
	for name, value := range inOrder(map[string]struct {
		text string
		most int
	}{"reportingInstance": {e.ReportingInstance, 128}, "action": {e.Action, 128}, "reason": {e.Reason, 128}}) {
		errs = append(errs, required(value.text, field.NewPath(name), "")...)
		if len(value.text) > value.most {
			errs = append(errs, field.Invalid(field.NewPath(name), "", fmt.Sprintf("can have at most %d characters", value.most)))
		}
	}
	if len(e.Message) > 1024 {
		errs = append(errs, field.Invalid(field.NewPath("message"), "", "can have at most 1024 characters"))
	}
	if e.Type != corev1.EventTypeNormal && e.Type != corev1.EventTypeWarning {
		errs = append(errs, field.NotSupported(field.NewPath("type"), e.Type, []string{corev1.EventTypeNormal, corev1.EventTypeWarning}))
	}
	return errs
}

// eventKind is events.k8s.io/v1, another view of the stored core events.
func eventKind() *Kind {
	toCore := func(o Object) (Object, error) { return eventToCore(o.(*eventsv1.Event)), nil }
	return &Kind{
		GroupVersionKind: eventsv1.SchemeGroupVersion.WithKind("Event"),
		Resource:         "events", Singular: "event", ShortNames: []string{"ev"}, Namespaced: true, CreateOnUpdate: true,
		New:            func() Object { return &eventsv1.Event{} },
		NewList:        func() runtime.Object { return &eventsv1.EventList{} },
		Validate:       check(validateNewEvent),
		ValidateUpdate: checkPair(validateNewEventUpdate),
		Columns:        eventColumns(),
		Row:            row(func(e *eventsv1.Event) []any { return eventRow(eventToCore(e)) }),
		Fields:         func(o Object) fields.Set { return eventFields(eventToCore(o.(*eventsv1.Event))) },
		StoredAs:       corev1.SchemeGroupVersion.WithResource("events"),
		ToStored:       toCore,
		FromStored:     func(o Object) (Object, error) { return eventFromCore(o.(*corev1.Event)), nil },
	}
}

// validateNewEvent is what events.k8s.io asks of a new event beyond validateEvent: a time, and none of the
// fields that only older clients set. Errors name the fields of core events, as Kubernetes' do.
func validateNewEvent(e *eventsv1.Event) (errs field.ErrorList) {
	if e.EventTime.IsZero() {
		errs = append(errs, field.Required(field.NewPath("eventTime"), ""))
	}
	for name, set := range inOrder(map[string]bool{"firstTimestamp": !e.DeprecatedFirstTimestamp.IsZero(), "lastTimestamp": !e.DeprecatedLastTimestamp.IsZero(),
		"count": e.DeprecatedCount != 0, "source": e.DeprecatedSource != corev1.EventSource{}}) {
		if set {
			errs = append(errs, field.Invalid(field.NewPath(name), "", "needs to be unset"))
		}
	}
	return errs
}

// validateNewEventUpdate lets events.k8s.io change an event's series and metadata alone.
func validateNewEventUpdate(e, old *eventsv1.Event) (errs field.ErrorList) {
	for _, f := range []struct {
		name     string
		now, was any
	}{
		{"involvedObject", e.Regarding, old.Regarding}, {"reason", e.Reason, old.Reason}, {"reportingController", e.ReportingController, old.ReportingController},
		{"reportingInstance", e.ReportingInstance, old.ReportingInstance}, {"action", e.Action, old.Action}, {"type", e.Type, old.Type}, {"message", e.Note, old.Note},
		{"related", e.Related, old.Related}, {"eventTime", e.EventTime, old.EventTime}, {"source", e.DeprecatedSource, old.DeprecatedSource},
		{"firstTimestamp", e.DeprecatedFirstTimestamp, old.DeprecatedFirstTimestamp}, {"lastTimestamp", e.DeprecatedLastTimestamp, old.DeprecatedLastTimestamp},
		{"count", e.DeprecatedCount, old.DeprecatedCount},
	} {
		errs = append(errs, immutable(f.now, f.was, field.NewPath(f.name))...)
	}
	return errs
}

func eventToCore(e *eventsv1.Event) *corev1.Event {
	out := &corev1.Event{
		ObjectMeta: *e.ObjectMeta.DeepCopy(), InvolvedObject: e.Regarding, Related: e.Related, Reason: e.Reason, Message: e.Note,
		Type: e.Type, EventTime: e.EventTime, Action: e.Action, ReportingController: e.ReportingController, ReportingInstance: e.ReportingInstance,
		Source: e.DeprecatedSource, FirstTimestamp: e.DeprecatedFirstTimestamp, LastTimestamp: e.DeprecatedLastTimestamp, Count: e.DeprecatedCount,
	}
	if e.Series != nil {
		out.Series = &corev1.EventSeries{Count: e.Series.Count, LastObservedTime: e.Series.LastObservedTime}
	}
	return out
}

func eventFromCore(e *corev1.Event) *eventsv1.Event {
	out := &eventsv1.Event{
		ObjectMeta: *e.ObjectMeta.DeepCopy(), Regarding: e.InvolvedObject, Related: e.Related, Reason: e.Reason, Note: e.Message,
		Type: e.Type, EventTime: e.EventTime, Action: e.Action, ReportingController: e.ReportingController, ReportingInstance: e.ReportingInstance,
		DeprecatedSource: e.Source, DeprecatedFirstTimestamp: e.FirstTimestamp, DeprecatedLastTimestamp: e.LastTimestamp, DeprecatedCount: e.Count,
	}
	if e.Series != nil {
		out.Series = &eventsv1.EventSeries{Count: e.Series.Count, LastObservedTime: e.Series.LastObservedTime}
	}
	return out
}

func eventColumns() []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		column("Last Seen", "Time of the last occurrence", 0), column("Type", "Normal or Warning", 0), column("Reason", "Why it happened, in one word", 0),
		column("Object", "What the event is about", 0), column("Subobject", "The part of the object", 1), column("Source", "Who reports it", 1),
		column("Message", "What happened", 0), column("First Seen", "Time of the first occurrence", 1), column("Count", "How often it occurred", 1),
		{Name: "Name", Type: "string", Format: "name", Description: "Name of the object.", Priority: 1},
	}
}

func eventRow(e *corev1.Event) []any {
	first, last := e.FirstTimestamp, e.LastTimestamp
	if first.IsZero() {
		first = metav1.NewTime(e.EventTime.Time)
	}
	if last.IsZero() {
		last = first
	}
	count := int64(e.Count)
	if e.Series != nil {
		last, count = metav1.NewTime(e.Series.LastObservedTime.Time), int64(e.Series.Count)
	}
	source := e.Source.Component
	if source == "" {
		source = e.ReportingController
	}
	if e.Source.Host != "" {
		source += ", " + e.Source.Host
	}
	object := strings.ToLower(e.InvolvedObject.Kind)
	if e.InvolvedObject.Name != "" {
		object = fmt.Sprintf("%s/%s", object, e.InvolvedObject.Name)
	}
	return []any{last, e.Type, e.Reason, object, e.InvolvedObject.FieldPath, source, strings.TrimSpace(e.Message), first, max(count, 1), e.Name}
}

func eventFields(e *corev1.Event) fields.Set {
	source := e.Source.Component
	if source == "" {
		source = e.ReportingController
	}
	return fields.Set{
		"involvedObject.kind": e.InvolvedObject.Kind, "involvedObject.namespace": e.InvolvedObject.Namespace,
		"involvedObject.name": e.InvolvedObject.Name, "involvedObject.uid": string(e.InvolvedObject.UID),
		"involvedObject.apiVersion": e.InvolvedObject.APIVersion, "involvedObject.resourceVersion": e.InvolvedObject.ResourceVersion,
		"involvedObject.fieldPath": e.InvolvedObject.FieldPath,
		"regarding.kind":           e.InvolvedObject.Kind, "regarding.namespace": e.InvolvedObject.Namespace,
		"regarding.name": e.InvolvedObject.Name, "regarding.uid": string(e.InvolvedObject.UID),
		"reason": e.Reason, "reportingComponent": e.ReportingController, "reportingController": e.ReportingController, "source": source, "type": e.Type,
	}
}
