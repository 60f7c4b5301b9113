package apiserver_test

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/apiserver/authn"
)

// Where Kubernetes lets an update create what isn't there, the right to create is asked for, too.
func TestAnUpdateCreatesWhereKubernetesLetsIt(t *testing.T) {
	c := start(t, options{})
	ctx := t.Context()
	if _, err := c.admin().RbacV1().Roles("default").Create(ctx, &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "updater"},
		Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"endpoints"}, Verbs: []string{"update"}}}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.admin().RbacV1().RoleBindings("default").Create(ctx, &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "updater"},
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "updater"}, Subjects: []rbacv1.Subject{{Kind: "User", Name: "u"}}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	endpoints := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: "e"}, Subsets: []corev1.EndpointSubset{{Addresses: []corev1.EndpointAddress{{IP: "10.0.0.1"}}, Ports: []corev1.EndpointPort{{Port: 80}}}}}
	_, err := c.clientset(c.configAs(&authn.User{Name: "u", Groups: []string{authn.GroupAuthenticated}})).CoreV1().Endpoints("default").Update(ctx, endpoints, metav1.UpdateOptions{})
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), `cannot create resource "endpoints"`) {
		t.Fatalf("who may only update created: %v", err)
	}
	made, err := c.admin().CoreV1().Endpoints("default").Update(ctx, endpoints, metav1.UpdateOptions{})
	if err != nil || made.UID == "" || len(made.ManagedFields) != 1 {
		t.Fatal(made, err)
	}
	if again, err := c.admin().CoreV1().Endpoints("default").Update(ctx, endpoints, metav1.UpdateOptions{}); err != nil || again.UID != made.UID {
		t.Fatal("an update without a version of what is there:", again, err)
	}
}

// events.k8s.io lets the series of an event change, and nothing else that it says.
func TestAnEventsSeriesAloneMayChange(t *testing.T) {
	events := start(t, options{}).admin().EventsV1().Events("default")
	now := metav1.NewMicroTime(time.Now())
	e, err := events.Create(t.Context(), &eventsv1.Event{ObjectMeta: metav1.ObjectMeta{Name: "e"}, EventTime: now, Type: "Normal", Reason: "R", Action: "A",
		ReportingController: "c", ReportingInstance: "i", Regarding: corev1.ObjectReference{Namespace: "default"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	e.Series = &eventsv1.EventSeries{Count: 2, LastObservedTime: now}
	if e, err = events.Update(t.Context(), e, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	e.Note = "other"
	if _, err := events.Update(t.Context(), e, metav1.UpdateOptions{}); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "message: Invalid value: \"other\": field is immutable") {
		t.Fatal(err)
	}
}
