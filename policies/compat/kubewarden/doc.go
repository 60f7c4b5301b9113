// Package kubewarden runs Kubewarden's policies as admission policies, unmodified: waPC modules of any toolchain, and
// WASI commands. Kubewarden's policies in Rego are package opa's.
//
// [New] makes an [Adapter] for policies.Config.Adapters; [Config] says what policies may reach. A policy's settings
// are validated by the module when the policy is set, and handed to it with each request. Everything is safe for
// concurrent use.
//
// What a policy asks its host for needs a capability in the policy object:
//
//	read:GROUP/RESOURCE  kubernetes/get_resource, list_resources_by_namespace, list_resources_all
//	kubewarden:can_i     kubernetes/can_i
//	kubewarden:oci       oci/v1/verify, v2/verify, v1/manifest_digest, v1/oci_manifest, v1/oci_manifest_config
//	kubewarden:net       net/v1/dns_lookup_host
//	kubewarden:crypto    crypto/v1/is_certificate_trusted
//
// A refusal is told to the policy, which decides what it makes of it. DESIGN.md has the tables.
package kubewarden
