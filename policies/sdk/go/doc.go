// Package pintle is what policies written in Go stand on: ABI pintle/v1 (policies/abi). A policy is a main package
// that the standard Go compiler makes into a WebAssembly module:
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -ldflags='-s -w' -o policy.wasm .
//
// Such a module has no main: the host runs its package initialization, then configures it, then calls it. So the policy
// says in an init function what it does:
//
//	func init() {
//		pintle.Configure(configure)   // takes the settings, asks for what it needs
//		admission.Handle(admit)
//	}
//
//	func main() {}
//
// A module takes part in what it imports: packages admission, scheduling/place, scheduling/permit, scheduling/queuekey and
// scheduling/postfilter export one call each. On other platforms they compile and export nothing, so that a policy's
// functions can be tested with go test.
//
// Strings, bytes and values that are read from a message lie in it: they are void when the call returns, and
// strings.Clone keeps them. A module has one thread and gets one call at a time. A panic is a trap: the call fails, and
// the policy's failurePolicy decides.
package pintle
