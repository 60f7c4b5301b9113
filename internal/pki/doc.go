// Package pki makes and keeps the certificates of a cluster: a CA, the API server's certificate,
// client certificates, the key that signs service account tokens, and kubeconfigs.
//
// A CA signs; Load keeps it in a folder. Rotating is a source for tls.Config that issues its
// certificate anew long before it expires, in process, so that a cluster that runs for years needs
// no hand. All keys are ECDSA on P-256.
package pki
