package appliance

import (
	"context"
	"fmt"

	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// createClasses creates the classes of what this appliance has, where they are missing: a RuntimeClass
// for each engine, the IngressClass of the ingress, and the DeviceClasses of GPUs, which nodes may bring at any time.
func (a *Appliance) createClasses(ctx context.Context) error {
	client, err := kubernetes.NewForConfig(a.RESTConfig())
	if err != nil {
		return fmt.Errorf("appliance: %w", err)
	}
	for _, engine := range a.engines.all {
		_, err := client.NodeV1().RuntimeClasses().Create(ctx, &nodev1.RuntimeClass{
			ObjectMeta: metav1.ObjectMeta{Name: engine.Name()}, Handler: engine.Name(),
		}, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("appliance: RuntimeClass %s: %w", engine.Name(), err)
		}
	}
	_, err = client.NetworkingV1().IngressClasses().Create(ctx, &networkingv1.IngressClass{
		ObjectMeta: metav1.ObjectMeta{Name: "pintle"}, Spec: networkingv1.IngressClassSpec{Controller: "pintle.dev/ingress"},
	}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("appliance: IngressClass pintle: %w", err)
	}
	for _, class := range deviceClasses() {
		_, err := client.ResourceV1().DeviceClasses().Create(ctx, class, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("appliance: DeviceClass %s: %w", class.Name, err)
		}
	}
	return nil
}
