package registry

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/raftstore"
)

func groupResource(k *api.Kind) schema.GroupResource { return k.GVR().GroupResource() }

func errStopped() error {
	return apierrors.NewServiceUnavailable("the registry is not running")
}

// expired is the 410 that tells a client to list again.
func expired() error {
	return apierrors.NewResourceExpired("too old resource version: the history that is kept begins later; list again")
}

func conflict(k *api.Kind, name string) error {
	return apierrors.NewConflict(groupResource(k), name,
		errors.New("the object has been modified; please apply your changes to the latest version and try again"))
}

func uidConflict(k *api.Kind, name string, want, have any) error {
	return apierrors.NewConflict(groupResource(k), name,
		fmt.Errorf("Precondition failed: UID in precondition: %v, UID in object meta: %v", want, have))
}

func notFound(k *api.Kind, name string) error { return apierrors.NewNotFound(groupResource(k), name) }

func invalid(k *api.Kind, name string, errs field.ErrorList) error {
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(k.GroupVersionKind.GroupKind(), name, errs)
}

// tooLargeVersion says that a resourceVersion has not been reached.
func tooLargeVersion(want, have int64) error {
	err := apierrors.NewTimeoutError(fmt.Sprintf("Too large resource version: %d, current: %d", want, have), 1)
	err.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: metav1.CauseTypeResourceVersionTooLarge, Message: "Too large resource version"}}
	return err
}

// ambiguous tells of a write that may take effect or not.
func ambiguous(err error) bool {
	return errors.Is(err, raftstore.ErrUncertain) || errors.Is(err, raftstore.ErrDegraded) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// errNoMajority is the answer of a member that is cut off from the others.
func errNoMajority() error {
	return apierrors.NewServiceUnavailable("this member reaches no majority of the control plane's members")
}

// storeError maps what the store answers to what clients understand, and keeps it for errors.Is.
func storeError(action string, err error) error {
	switch {
	case errors.Is(err, raftstore.ErrCompacted):
		return expired()
	case errors.Is(err, raftstore.ErrDegraded), errors.Is(err, raftstore.ErrNotLeader), errors.Is(err, raftstore.ErrClosed), errors.Is(err, raftstore.ErrFenced):
		return &causedError{apierrors.NewServiceUnavailable(fmt.Sprintf("%s: %v", action, err)), err}
	case errors.Is(err, raftstore.ErrUncertain):
		return &causedError{apierrors.NewTimeoutError(fmt.Sprintf("%s: %v", action, err), 1), err}
	}
	return fmt.Errorf("registry: %s: %w", action, err)
}

// causedError is an API status that also answers errors.Is for its cause.
type causedError struct {
	*apierrors.StatusError
	cause error
}

func (e *causedError) Unwrap() []error { return []error{e.StatusError, e.cause} }
