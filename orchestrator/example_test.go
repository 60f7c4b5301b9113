package orchestrator_test

import (
	"context"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/pintle/pintle/orchestrator"
)

// A cluster in memory, that nobody but this program reaches; with a DataDir it would be durable, with
// an Address kubectl would find it.
func Example() {
	o, err := orchestrator.New(orchestrator.Config{Name: "demo"})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- o.Run(ctx) }()
	select {
	case <-o.Ready():
	case err := <-ended: // a folder that is locked, a port that is taken
		fmt.Println(err)
		return
	}

	client, err := kubernetes.NewForConfig(o.RESTConfig())
	if err != nil {
		fmt.Println(err)
		return
	}
	settings := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "settings"}, Data: map[string]string{"color": "green"}}
	if _, err := client.CoreV1().ConfigMaps("default").Create(ctx, settings, metav1.CreateOptions{}); err != nil {
		fmt.Println(err)
		return
	}
	got, err := client.CoreV1().ConfigMaps("default").Get(ctx, "settings", metav1.GetOptions{})
	fmt.Println(got.Data["color"], err)

	stop()
	fmt.Println("ended with", <-ended)
	// Output:
	// green <nil>
	// ended with <nil>
}

// Whoever is asked for by name has that user's rights, and no more.
func ExampleOrchestrator_RESTConfigAs() {
	o, err := orchestrator.New(orchestrator.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- o.Run(ctx) }()
	<-o.Ready()

	client, err := kubernetes.NewForConfig(o.RESTConfigAs("ada", "engineers"))
	if err != nil {
		fmt.Println(err)
		return
	}
	review, err := client.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(review.Status.UserInfo.Username, review.Status.UserInfo.Groups)
	_, err = client.CoreV1().Secrets("default").List(ctx, metav1.ListOptions{})
	fmt.Println(err)

	stop()
	<-ended
	// Output:
	// ada [system:authenticated engineers]
	// secrets is forbidden: User "ada" cannot list resource "secrets" in API group "" in the namespace "default"
}
