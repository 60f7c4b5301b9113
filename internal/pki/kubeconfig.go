package pki

import (
	"errors"
	"fmt"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Kubeconfig says what a kubeconfig holds. Either Client or Token is set.
type Kubeconfig struct {
	Cluster   string // the name of the cluster, the context and the user
	Server    string // https://host:port
	CAPEM     []byte
	User      string // the name of the user's entry; "": Cluster + "-admin"
	Client    Pair
	Token     string
	Namespace string // "": default
}

// Build returns the configuration with everything embedded, so that it is one file to copy.
func (k Kubeconfig) Build() (*clientcmdapi.Config, error) {
	if k.Cluster == "" || k.Server == "" {
		return nil, errors.New("kubeconfig: cluster and server are needed")
	}
	user := k.User
	if user == "" {
		user = k.Cluster + "-admin"
	}
	cfg := clientcmdapi.NewConfig()
	cfg.Clusters[k.Cluster] = &clientcmdapi.Cluster{Server: k.Server, CertificateAuthorityData: k.CAPEM}
	cfg.AuthInfos[user] = &clientcmdapi.AuthInfo{
		ClientCertificateData: k.Client.CertPEM, ClientKeyData: k.Client.KeyPEM, Token: k.Token,
	}
	cfg.Contexts[k.Cluster] = &clientcmdapi.Context{Cluster: k.Cluster, AuthInfo: user, Namespace: k.Namespace}
	cfg.CurrentContext = k.Cluster
	return cfg, nil
}

// Bytes is the configuration as a file's content. It holds a private key: write it with mode 0600.
func (k Kubeconfig) Bytes() ([]byte, error) {
	cfg, err := k.Build()
	if err != nil {
		return nil, err
	}
	data, err := clientcmd.Write(*cfg)
	if err != nil {
		return nil, fmt.Errorf("encode kubeconfig: %w", err)
	}
	return data, nil
}
