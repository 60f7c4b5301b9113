package api

import (
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	resourcev1 "k8s.io/api/resource/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
)

// All returns every kind that is served, in discovery order.
func All() []*Kind {
	return []*Kind{
		namespaceKind(), nodeKind(), podKind(), serviceKind(), endpointsKind(), configMapKind(), secretKind(),
		serviceAccountKind(), coreEventKind(), eventKind(),
		deploymentKind(), replicaSetKind(), statefulSetKind(), daemonSetKind(), controllerRevisionKind(),
		jobKind(), cronJobKind(),
		horizontalPodAutoscalerKind(), horizontalPodAutoscalerV1Kind(),
		endpointSliceKind(), ingressKind(), ingressClassKind(), serviceCIDRKind(), ipAddressKind(),
		resourceQuotaKind(), limitRangeKind(),
		leaseKind(), runtimeClassKind(), priorityClassKind(), podGroupKind(), podDisruptionBudgetKind(),
		deviceClassKind(), resourceClaimKind(), resourceClaimTemplateKind(), resourceSliceKind(),
		persistentVolumeKind(), persistentVolumeClaimKind(), storageClassKind(), volumeAttachmentKind(), csiDriverKind(), csiNodeKind(), csiStorageCapacityKind(),
		roleKind(), roleBindingKind(), clusterRoleKind(), clusterRoleBindingKind(),
		memberKind(), policyModuleKind(), admissionPolicyKind(), schedulingPolicyKind(), queueKind(), addressPoolKind(), recommendationKind(),
	}
}

// ByGVR returns the kind served under a resource, nil if none is.
func ByGVR(kinds []*Kind, gvr schema.GroupVersionResource) *Kind {
	for _, k := range kinds {
		if k.GVR() == gvr {
			return k
		}
	}
	return nil
}

// ByGVK returns the kind of that name, nil if none is served.
func ByGVK(kinds []*Kind, gvk schema.GroupVersionKind) *Kind {
	for _, k := range kinds {
		if k.GroupVersionKind == gvk {
			return k
		}
	}
	return nil
}

// Scheme knows the Go type of every kind that is served and of every object that crosses the wire
// beside them. It is made once and must not be changed.
func Scheme() *runtime.Scheme { return scheme() }

var scheme = sync.OnceValue(func() *runtime.Scheme {
	s := runtime.NewScheme()
	metav1.AddToGroupVersion(s, schema.GroupVersion{Version: "v1"})
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, discoveryv1.AddToScheme, networkingv1.AddToScheme, coordinationv1.AddToScheme,
		batchv1.AddToScheme, autoscalingv1.AddToScheme, autoscalingv2.AddToScheme, storagev1.AddToScheme,
		nodev1.AddToScheme, schedulingv1.AddToScheme, schedulingv1beta1.AddToScheme, policyv1.AddToScheme, rbacv1.AddToScheme, eventsv1.AddToScheme, resourcev1.AddToScheme,
		authenticationv1.AddToScheme, authorizationv1.AddToScheme, metav1.AddMetaToScheme,
	} {
		utilruntime.Must(add(s))
	}
	s.AddKnownTypes(ClusterGroupVersion(), &Member{}, &MemberList{})
	s.AddKnownTypes(PolicyGroupVersion(), &PolicyModule{}, &PolicyModuleList{}, &AdmissionPolicy{}, &AdmissionPolicyList{},
		&SchedulingPolicy{}, &SchedulingPolicyList{})
	s.AddKnownTypes(SchedulingGroupVersion(), &Queue{}, &QueueList{})
	s.AddKnownTypes(NetworkingGroupVersion(), &AddressPool{}, &AddressPoolList{})
	s.AddKnownTypes(AutoscalingGroupVersion(), &Recommendation{}, &RecommendationList{})
	for _, ours := range []schema.GroupVersion{ClusterGroupVersion(), PolicyGroupVersion(), SchedulingGroupVersion(), NetworkingGroupVersion(), AutoscalingGroupVersion()} {
		metav1.AddToGroupVersion(s, ours)
	}
	return s
})
