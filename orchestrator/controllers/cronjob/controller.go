package cronjob

import (
	"context"
	"errors"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pintle/pintle/orchestrator/controllers/reconcile"
)

// Name is the controller's name in events and metrics.
const Name = "cronjob-controller"

func kind() schema.GroupVersionKind { return batchv1.SchemeGroupVersion.WithKind("CronJob") }

type shell struct {
	env    reconcile.Env
	events *reconcile.Recorder
}

// New makes the controller; nothing runs yet.
func New(env reconcile.Env, events *reconcile.Recorder, workers int) *reconcile.Controller {
	c := &shell{env: env.WithDefaults(), events: events}
	return &reconcile.Controller{Name: Name, Workers: workers, Reconcile: c.reconcile, Watches: []reconcile.Watch{
		{Resource: reconcile.CronJobs()},
		{Resource: reconcile.Jobs(), Map: reconcile.EnqueueController("CronJob")},
	}}
}

func (c *shell) reconcile(ctx context.Context, k reconcile.Key) (time.Duration, error) {
	cl := c.env.Client
	cron, err := reconcile.Get[*batchv1.CronJob](ctx, cl, reconcile.CronJobs(), k.Namespace, k.Name)
	if err != nil || cron == nil {
		return 0, err
	}
	objs, err := cl.Owned(ctx, reconcile.Jobs(), cron.UID)
	if err != nil {
		return 0, fmt.Errorf("list jobs: %w", err)
	}
	var jobs []*batchv1.Job
	for _, j := range reconcile.As[*batchv1.Job](objs) {
		if ref := metav1.GetControllerOfNoCopy(j); ref != nil && ref.UID == cron.UID {
			jobs = append(jobs, j)
		}
	}
	p := decide(cron, jobs, c.env.Clock.Now())
	for _, e := range p.events {
		c.events.Emit(Name, cron, kind(), e.typ, e.reason, e.message)
	}
	for _, j := range p.remove {
		if err := c.remove(ctx, cron, j); err != nil {
			return 0, err
		}
	}
	if p.create != nil {
		if err := c.create(ctx, cron, &p); err != nil {
			return 0, err
		}
	}
	if !apiequality.Semantic.DeepEqual(p.status, cron.Status) {
		n := cron.DeepCopy()
		n.Status = p.status
		if _, err := cl.Update(ctx, reconcile.CronJobs(), "status", n); err != nil && !apierrors.IsNotFound(err) {
			return 0, fmt.Errorf("write status: %w", err)
		}
	}
	return p.again, nil
}

func (c *shell) remove(ctx context.Context, cron *batchv1.CronJob, j *batchv1.Job) error {
	uid, background := j.UID, metav1.DeletePropagationBackground
	err := c.env.Client.Delete(ctx, reconcile.Jobs(), j.Namespace, j.Name, metav1.DeleteOptions{PropagationPolicy: &background, Preconditions: &metav1.Preconditions{UID: &uid}})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		c.events.Emit(Name, cron, kind(), corev1.EventTypeWarning, "FailedDelete", fmt.Sprintf("Deleted job: %v", err))
		return fmt.Errorf("delete job %s: %w", j.Name, err)
	}
	c.events.Emit(Name, cron, kind(), corev1.EventTypeNormal, "SuccessfulDelete", "Deleted job "+j.Name)
	return nil
}

// create starts the Job that is due. Somebody else's of the same name is left alone, and this time is passed over.
func (c *shell) create(ctx context.Context, cron *batchv1.CronJob, p *plan) error {
	o, err := c.env.Client.Create(ctx, reconcile.Jobs(), p.create)
	if apierrors.IsAlreadyExists(err) {
		have, gerr := reconcile.Get[*batchv1.Job](ctx, c.env.Client, reconcile.Jobs(), p.create.Namespace, p.create.Name)
		if gerr != nil || have == nil {
			return errors.Join(gerr, err)
		}
		if ref := metav1.GetControllerOf(p.create); metav1.IsControlledBy(have, &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{UID: ref.UID}}) {
			return nil // the next look sees it
		}
		c.events.Emit(Name, cron, kind(), corev1.EventTypeWarning, "FailedCreate", "Error creating job: "+err.Error())
		return nil
	}
	if err != nil {
		if !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			c.events.Emit(Name, cron, kind(), corev1.EventTypeWarning, "FailedCreate", "Error creating job: "+err.Error())
		}
		return fmt.Errorf("create job: %w", err)
	}
	if j, ok := o.(*batchv1.Job); ok {
		p.status.Active = append(p.status.Active, reference(j))
		c.events.Emit(Name, cron, kind(), corev1.EventTypeNormal, "SuccessfulCreate", "Created job "+j.Name)
	}
	return nil
}
