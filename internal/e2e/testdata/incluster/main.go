// Incluster is a program as people write them for pods: it finds its cluster through client-go's
// InClusterConfig, lists what it may, and is refused what it may not.
package main

import (
	"context"
	"fmt"
	"os"

	authv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Println("FAILED:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	cfg, err := rest.InClusterConfig()
	if err != nil {
		return err
	}
	for _, host := range []string{cfg.Host, "https://kubernetes.default.svc", "https://kubernetes.default"} {
		cfg.Host = host
		client, err := kubernetes.NewForConfig(cfg)
		if err != nil {
			return err
		}
		me, err := client.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authv1.SelfSubjectReview{}, metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("%s: %w", host, err)
		}
		fmt.Println("I am", me.Status.UserInfo.Username)
		maps, err := client.CoreV1().ConfigMaps("default").List(ctx, metav1.ListOptions{LabelSelector: "mine=yes"})
		if err != nil {
			return fmt.Errorf("%s: list what is allowed: %w", host, err)
		}
		for _, m := range maps.Items {
			fmt.Println("found", m.Name)
		}
		_, err = client.CoreV1().Secrets("default").List(ctx, metav1.ListOptions{})
		if !apierrors.IsForbidden(err) {
			return fmt.Errorf("%s: list what isn't allowed: %v", host, err)
		}
		fmt.Println("refused:", err)
		_, err = client.CoreV1().ConfigMaps("kube-system").List(ctx, metav1.ListOptions{})
		if !apierrors.IsForbidden(err) {
			return fmt.Errorf("%s: list what isn't allowed elsewhere: %v", host, err)
		}
	}
	fmt.Println("all is well")
	return nil
}
