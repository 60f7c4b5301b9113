package main

import (
	"strconv"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/gpu/topology"
)

const (
	namespace = "default"
	jobName   = "train"
	world     = 4
	steps     = 60
)

func ptr[T any](v T) *T { return &v }

// group makes a gang of the Job's pods: they are placed all at once, and restart as a whole.
func group() *schedulingv1beta1.PodGroup {
	return &schedulingv1beta1.PodGroup{ObjectMeta: metav1.ObjectMeta{Name: jobName}, Spec: schedulingv1beta1.PodGroupSpec{
		SchedulingPolicy: schedulingv1beta1.PodGroupSchedulingPolicy{Gang: &schedulingv1beta1.GangSchedulingPolicy{MinCount: world}}}}
}

// service gives the ranks their names in DNS: train-0.train, train-1.train, …, before they are ready.
func service() *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: jobName}, Spec: corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone,
		Selector: map[string]string{batchv1.JobNameLabel: jobName}, PublishNotReadyAddresses: true, Ports: []corev1.ServicePort{{Name: "rendezvous", Port: 29500}}}}
}

// job is the training run: a rank for each index, a GPU for each rank, and a folder that all of them see.
func job(shared string) *batchv1.Job {
	one := corev1.ResourceList{"nvidia.com/gpu": resource.MustParse("1")}
	env := func(name, value string) corev1.EnvVar { return corev1.EnvVar{Name: name, Value: value} }
	return &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: jobName}, Spec: batchv1.JobSpec{
		CompletionMode: ptr(batchv1.IndexedCompletion), Completions: ptr[int32](world), Parallelism: ptr[int32](world), BackoffLimit: ptr[int32](3),
		Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever, TerminationGracePeriodSeconds: ptr[int64](1), RuntimeClassName: ptr("wasm"),
			SchedulingGroup: &corev1.PodSchedulingGroup{PodGroupName: ptr(jobName)}, Subdomain: jobName,
			Containers: []corev1.Container{{
				Name: "trainer", Image: image, ImagePullPolicy: corev1.PullIfNotPresent,
				Env: []corev1.EnvVar{env("WORLD_SIZE", strconv.Itoa(world)), env("STEPS", strconv.Itoa(steps)), env("MASTER_ADDR", jobName+"-0."+jobName), env("SHARED", "/shared"),
					{Name: "GPU", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.annotations['" + topology.PodAnnotation + "']"}}}},
				Resources: corev1.ResourceRequirements{Limits: one, Requests: one},
				// What it said last is why it failed.
				TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
				VolumeMounts:             []corev1.VolumeMount{{Name: "shared", MountPath: "/shared"}},
			}},
			// On several machines: a file system that all of them mount.
			Volumes: []corev1.Volume{{Name: "shared", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: shared, Type: ptr(corev1.HostPathDirectory)}}}},
		}},
	}}
}
