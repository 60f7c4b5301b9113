package main

import (
	"context"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

func pods(n int64) *resource.Quantity { return resource.NewQuantity(n, resource.DecimalSI) }

// cronJobs makes CronJobs that all fire at one minute, and waits until it has come.
func cronJobs(ctx context.Context, c kubernetes.Interface, ns string, n int) error {
	at := time.Now().UTC().Add(90 * time.Second).Truncate(time.Minute)
	template := small(map[string]string{ends: "yes"})
	template.Spec.RestartPolicy = corev1.RestartPolicyNever
	suspended := true // the Jobs: their pods aren't what is counted
	err := parallel(ctx, n, func(ctx context.Context, i int) error {
		meta, _ := named(ns, i)
		_, err := c.BatchV1().CronJobs(ns).Create(ctx, &batchv1.CronJob{ObjectMeta: meta, Spec: batchv1.CronJobSpec{
			Schedule:    fmt.Sprintf("%d %d %d %d *", at.Minute(), at.Hour(), at.Day(), at.Month()),
			JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Suspend: &suspended, Template: template}}}}, metav1.CreateOptions{})
		return err
	})
	if err != nil {
		return err
	}
	wait := time.Until(at)
	if wait < 0 {
		return fmt.Errorf("to create %d CronJobs took longer than was left to their minute", n)
	}
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// volumes makes a PersistentVolume for each claim.
func volumes(ctx context.Context, c kubernetes.Interface, _ string, n int) error {
	return parallel(ctx, n, func(ctx context.Context, i int) error {
		_, err := c.CoreV1().PersistentVolumes().Create(ctx, &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("v-%05d", i)},
			Spec: corev1.PersistentVolumeSpec{
				Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				StorageClassName: "by-hand", PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
				PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/var/empty"}}}}, metav1.CreateOptions{})
		return err
	})
}

func claim(ctx context.Context, c kubernetes.Interface, ns string, i int) error {
	meta, _ := named(ns, i)
	class := "by-hand"
	_, err := c.CoreV1().PersistentVolumeClaims(ns).Create(ctx, &corev1.PersistentVolumeClaim{ObjectMeta: meta, Spec: corev1.PersistentVolumeClaimSpec{
		StorageClassName: &class, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}}}}, metav1.CreateOptions{})
	return err
}

func configMaps(ctx context.Context, c kubernetes.Interface, ns string, n int) error {
	return makeConfigMaps(ctx, c, ns, n, nil)
}

func ownedConfigMaps(ctx context.Context, c kubernetes.Interface, ns string, n int) error {
	owner, err := c.CoreV1().ConfigMaps(ns).Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "owner"}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	return makeConfigMaps(ctx, c, ns, n, []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "owner", UID: owner.UID}})
}

func makeConfigMaps(ctx context.Context, c kubernetes.Interface, ns string, n int, owners []metav1.OwnerReference) error {
	return parallel(ctx, n, func(ctx context.Context, i int) error {
		meta, _ := named(ns, i)
		meta.Labels, meta.OwnerReferences = map[string]string{"owned": "yes"}, owners
		_, err := c.CoreV1().ConfigMaps(ns).Create(ctx, &corev1.ConfigMap{ObjectMeta: meta}, metav1.CreateOptions{})
		return err
	})
}
