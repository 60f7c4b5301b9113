package api_test

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/pintle/pintle/orchestrator/api"
)

// Defaults and problems of an object, as the API server finds them.
func Example() {
	service := &corev1.Service{Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80, NodePort: 30080}}}}
	kind := api.ByGVR(api.All(), corev1.SchemeGroupVersion.WithResource("services"))
	kind.Default(service)
	fmt.Println(service.Spec.Type, service.Spec.Ports[0].Protocol, service.Spec.Ports[0].TargetPort.String())
	for _, problem := range kind.Validate(service) {
		fmt.Println(problem)
	}
	// Output:
	// ClusterIP TCP 80
	// spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'
}
