// Package volumeexpand follows PersistentVolumeClaims that ask for more than they have, as the Kubernetes documentation of
// expanding persistent volumes claims has it. Volumes of the built-in provisioner are enlarged by the agent of their node, and the
// claim's conditions and capacity are kept here; volumes of CSI drivers are their resizer's, and the claim's events say so.
package volumeexpand
