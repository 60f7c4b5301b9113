// Package opa runs Rego policies that "opa build -t wasm" compiled, as admission policies: those written for OPA,
// which answer with a review, and Gatekeeper's, which answer with violations.
//
// [New] makes an [Adapter] for policies.Config.Adapters; [Config] says what modules may reach. Everything is safe for
// concurrent use.
//
// Which of the two a module is, Kubewarden's metadata say; without them, a module with an entry point "violation" is
// Gatekeeper's. A review's module gets {"request": …} and finds the policy's settings in data; Gatekeeper's gets
// {"parameters": settings, "review": request}. Cluster objects of the capabilities read:GROUP/RESOURCE are in data, as
// kube-mgmt and Gatekeeper lay them out.
//
// Rego's built-in functions are in the module, or here, or come through Config.Builtins: the module
// policies/compat/opa/builtins has all of OPA's. A module that calls one which isn't there is refused when the policy
// is set. DESIGN.md has the table.
package opa
