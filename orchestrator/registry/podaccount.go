package registry

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/rand"
)

const (
	tokenVolumePrefix = "kube-api-access-"
	tokenMountPath    = "/var/run/secrets/kubernetes.io/serviceaccount"
	tokenSeconds      = 3607 // Kubernetes' own figure: an hour, told apart from one that somebody asked for
	defaultAccount    = "default"
	// accountPatience is how long a pod waits for its namespace's account "default", which a controller
	// makes moments after the namespace.
	accountPatience = time.Second
)

// account gives a pod its service account and the token of it.
func (r *Registry) account(ctx context.Context, k *kindRef, pod *corev1.Pod) error {
	if pod.Spec.ServiceAccountName == "" {
		pod.Spec.ServiceAccountName = defaultAccount
		if pod.Spec.DeprecatedServiceAccount != "" {
			pod.Spec.ServiceAccountName = pod.Spec.DeprecatedServiceAccount
		}
	}
	pod.Spec.DeprecatedServiceAccount = pod.Spec.ServiceAccountName
	c := r.resources[corev1.SchemeGroupVersion.WithResource("serviceaccounts")]
	if c == nil {
		return nil
	}
	sa, err := findAccount(ctx, c, pod.Namespace, pod.Spec.ServiceAccountName)
	if err != nil {
		return apierrors.NewForbidden(groupResource(k.kind), pod.Name, err)
	}
	useAccount(pod, sa)
	return nil
}

func findAccount(ctx context.Context, c *resource, namespace, name string) (*corev1.ServiceAccount, error) {
	patience := time.NewTimer(accountPatience)
	defer patience.Stop()
	missing := fmt.Errorf("error looking up service account %s/%s: serviceaccount %q not found", namespace, name, name)
	for {
		e, changed := c.wait(entryKey(namespace, name))
		if e != nil {
			return e.obj.(*corev1.ServiceAccount), nil
		}
		if name != defaultAccount {
			return nil, missing
		}
		select {
		case <-changed:
		case <-patience.C:
			return nil, missing
		case <-ctx.Done():
			return nil, missing
		}
	}
}

// useAccount adds what the account brings: image pull secrets, and the token unless somebody declined.
func useAccount(pod *corev1.Pod, sa *corev1.ServiceAccount) {
	if len(pod.Spec.ImagePullSecrets) == 0 {
		pod.Spec.ImagePullSecrets = append(pod.Spec.ImagePullSecrets, sa.ImagePullSecrets...)
	}
	automount := true
	switch {
	case pod.Spec.AutomountServiceAccountToken != nil:
		automount = *pod.Spec.AutomountServiceAccountToken
	case sa.AutomountServiceAccountToken != nil:
		automount = *sa.AutomountServiceAccountToken
	}
	if automount {
		mountToken(pod, tokenVolumePrefix+rand.String(randomSuffix))
	}
}

// mountToken mounts the token wherever the pod mounts nothing at its place.
func mountToken(pod *corev1.Pod, volume string) {
	there := false
	for _, v := range pod.Spec.Volumes {
		if strings.HasPrefix(v.Name, tokenVolumePrefix) {
			volume, there = v.Name, true
		}
	}
	needed := false
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for n := range containers {
			if !mounts(&containers[n], tokenMountPath) {
				containers[n].VolumeMounts = append(containers[n].VolumeMounts, corev1.VolumeMount{Name: volume, ReadOnly: true, MountPath: tokenMountPath})
				needed = true
			}
		}
	}
	if !needed || there {
		return
	}
	mode, seconds := int32(0o644), int64(tokenSeconds)
	pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: volume, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		DefaultMode: &mode,
		Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{ExpirationSeconds: &seconds, Path: "token"}},
			{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "kube-root-ca.crt"},
				Items: []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}}}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{Path: "namespace",
				FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"}}}}},
		},
	}}})
}

func mounts(c *corev1.Container, path string) bool {
	for _, m := range c.VolumeMounts {
		if m.MountPath == path {
			return true
		}
	}
	return false
}
