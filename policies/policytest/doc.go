// Package policytest runs policy modules on requests that were written down, and shows how two versions of a module
// differ in what they decide. No cluster is needed.
//
// A recording is JSON, one request a line (any JSON values in a row can be read). A request is one of
//
//   - an AdmissionReview of admission.k8s.io/v1, as the API server sends webhooks
//   - its request alone
//   - an object of Kubernetes, which is taken for a creation of it
//   - {"pod": POD, "nodes": [NODE, …]}, a pod and the nodes that it may go to. A NODE may say, beside what Kubernetes
//     knows, what the pods there request and how many they are: "requested": {"cpu": "1500m"}, "pods": 3
//
// Recorder writes them; Parser reads them; Replay runs them; Diff compares.
package policytest
