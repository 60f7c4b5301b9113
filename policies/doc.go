// Package policies runs admission and scheduling policies as WebAssembly in the process: a call costs microseconds,
// and a module can't hurt anyone. Host is the type to know: Load gives it modules, Set gives it policies that use
// them, Admit and Place ask a policy.
//
//	h, err := policies.New(policies.Config{})
//	go h.Run(ctx)
//	_, err = h.Load(ctx, "labels", wasm)
//	err = h.Set(ctx, abi.Policy{Name: "need-owner", Kind: abi.Admission, Module: "labels", Settings: json})
//	response, spent, err := h.Admit(ctx, "need-owner", request)
//
// Everything may be called by any number of goroutines at once. Calls take no lock that loading, setting and removing
// hold, and none of them waits for a compiler. A policy that is changed, or whose module is loaded anew, is swapped
// between calls: a call that runs is ended by what began it.
//
// Caveats. A module is bounded by the fuel of one call, and by its memory; the context is a backstop only. A call that
// fails is an error, and what happens then is the caller's to decide (failurePolicy). A policy that failed five times
// in a row is not asked for a while: ErrCircuitOpen. What modules of other ABIs need stands in policies/compat.
package policies
