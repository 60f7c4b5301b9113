// Package devicetainteviction ends pods that use devices with NoExecute taints that their claims don't tolerate, or no longer, as the
// Kubernetes documentation of dynamic resource allocation has it (device taints and tolerations). Taints are those that
// drivers publish in ResourceSlices; DeviceTaintRules, an alpha feature, aren't served.
package devicetainteviction
