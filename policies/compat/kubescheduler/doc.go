// Package kubescheduler runs guests of kube-scheduler-wasm-extension as scheduling policies, unmodified.
//
// [New] makes an [Adapter] for policies.Config.Adapters; [Config] says what guests may reach. A policy's settings are
// the guest's configuration (get_config). Everything is safe for concurrent use.
//
// The extension points run at these hooks of the policy ABI:
//
//	Place       prefilter, filter over the candidates; prescore, score, normalizescore over those that pass
//	Permit      reserve, permit, and where these allow the pod prebind, bind, postbind; unreserve after a refusal
//	PostFilter  postfilter
//
// enqueue runs once, when an instance starts. DESIGN.md has the tables of what is supported and what isn't, and says
// why guests are faster here than in their own runtime.
package kubescheduler
