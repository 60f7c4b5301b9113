package api

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Every field of a pod is either honoured by the runtime and the scheduler, or refused by name. A field
// that a newer k8s.io/api brings fails this test until somebody decides.
func TestEveryPodFieldIsHonouredOrRefused(t *testing.T) {
	tables := []struct {
		of       any
		honoured string
		refused  string
		path     string
		pod      func(reflect.Value) *corev1.PodSpec
	}{
		{
			of: corev1.PodSpec{},
			honoured: `volumes initContainers containers restartPolicy terminationGracePeriodSeconds activeDeadlineSeconds dnsPolicy nodeSelector
				serviceAccountName serviceAccount automountServiceAccountToken nodeName hostNetwork hostPID hostIPC shareProcessNamespace securityContext
				imagePullSecrets hostname subdomain affinity schedulerName tolerations hostAliases priorityClassName priority dnsConfig readinessGates
				runtimeClassName enableServiceLinks preemptionPolicy overhead topologySpreadConstraints schedulingGates`,
			refused: `ephemeralContainers setHostnameAsFQDN os resourceClaims resources hostnameOverride schedulingGroup evictionResponders`,
			path:    "spec",
			pod:     func(v reflect.Value) *corev1.PodSpec { s := v.Interface().(corev1.PodSpec); return &s },
		},
		{
			of: corev1.Container{},
			honoured: `name image command args workingDir ports envFrom env resources resizePolicy restartPolicy volumeMounts livenessProbe readinessProbe
				startupProbe lifecycle terminationMessagePath terminationMessagePolicy imagePullPolicy securityContext stdin stdinOnce tty`,
			refused: `restartPolicyRules volumeDevices`,
			path:    "spec.containers[0]",
			pod: func(v reflect.Value) *corev1.PodSpec {
				return &corev1.PodSpec{Containers: []corev1.Container{v.Interface().(corev1.Container)}}
			},
		},
		{
			of: corev1.VolumeSource{}, honoured: `hostPath emptyDir secret configMap downwardAPI projected`,
			refused: `gcePersistentDisk awsElasticBlockStore gitRepo nfs iscsi glusterfs persistentVolumeClaim rbd flexVolume cinder cephfs flocker fc azureFile
				vsphereVolume quobyte azureDisk photonPersistentDisk portworxVolume scaleIO storageos csi ephemeral image`,
			path: "spec.volumes[0]",
			pod: func(v reflect.Value) *corev1.PodSpec {
				return &corev1.PodSpec{Volumes: []corev1.Volume{{Name: "v", VolumeSource: v.Interface().(corev1.VolumeSource)}}}
			},
		},
		{
			of: corev1.SecurityContext{}, honoured: `capabilities privileged runAsUser runAsGroup runAsNonRoot readOnlyRootFilesystem allowPrivilegeEscalation
				procMount seccompProfile`,
			refused: `seLinuxOptions windowsOptions appArmorProfile`, path: "spec.containers[0].securityContext",
			pod: func(v reflect.Value) *corev1.PodSpec {
				s := v.Interface().(corev1.SecurityContext)
				return &corev1.PodSpec{Containers: []corev1.Container{{SecurityContext: &s}}}
			},
		},
		{
			of: corev1.PodSecurityContext{}, honoured: `runAsUser runAsGroup runAsNonRoot supplementalGroups fsGroup seccompProfile fsGroupChangePolicy`,
			refused: `seLinuxOptions windowsOptions sysctls supplementalGroupsPolicy seLinuxChangePolicy appArmorProfile`, path: "spec.securityContext",
			pod: func(v reflect.Value) *corev1.PodSpec {
				s := v.Interface().(corev1.PodSecurityContext)
				return &corev1.PodSpec{SecurityContext: &s}
			},
		},
		{
			of: corev1.VolumeMount{}, honoured: `name readOnly mountPath subPath mountPropagation subPathExpr`, refused: `recursiveReadOnly bindMountOptions`,
			path: "spec.containers[0].volumeMounts[0]",
			pod: func(v reflect.Value) *corev1.PodSpec {
				return &corev1.PodSpec{Containers: []corev1.Container{{VolumeMounts: []corev1.VolumeMount{v.Interface().(corev1.VolumeMount)}}}}
			},
		},
		{
			of: corev1.Lifecycle{}, honoured: `postStart preStop`, refused: `stopSignal`, path: "spec.containers[0].lifecycle",
			pod: func(v reflect.Value) *corev1.PodSpec {
				l := v.Interface().(corev1.Lifecycle)
				return &corev1.PodSpec{Containers: []corev1.Container{{Lifecycle: &l}}}
			},
		},
	}
	for _, table := range tables {
		kind := reflect.TypeOf(table.of)
		t.Run(kind.Name(), func(t *testing.T) {
			honoured, refused := strings.Fields(table.honoured), strings.Fields(table.refused)
			for i := range kind.NumField() {
				name, _, _ := strings.Cut(kind.Field(i).Tag.Get("json"), ",")
				if slices.Contains(honoured, name) || name == "hostUsers" { // hostUsers: false alone is refused, below
					continue
				}
				if !slices.Contains(refused, name) {
					t.Errorf("%s is neither known to be honoured nor refused", name)
					continue
				}
				v := reflect.New(kind).Elem()
				fill(v.Field(i), 3, 1)
				errs := validatePodSpec(table.pod(v), field.NewPath("spec"))
				if !slices.ContainsFunc(errs, func(e *field.Error) bool {
					return strings.HasPrefix(e.Field, table.path+"."+name) && e.Type == field.ErrorTypeForbidden && strings.HasPrefix(e.Detail, "not supported by Pintle: ")
				}) {
					t.Errorf("%s is accepted: %v", name, errs.ToAggregate())
				}
			}
		})
	}
	no := false
	if errs := unsupportedPodFields(&corev1.PodSpec{HostUsers: &no}, field.NewPath("spec")); len(errs) != 1 || errs[0].Field != "spec.hostUsers" {
		t.Errorf("hostUsers: false gives %v", errs)
	}
}
