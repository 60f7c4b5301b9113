// Package nvml asks NVIDIA's management library, and is the only package that imports go-nvml.
//
// It is built with linux and cgo, and not with the tag nonvml; otherwise Open fails with the reason. The
// library is loaded when it is first needed: a program that links this package starts without a driver.
//
// Two things kill a process and are kept from happening here: any call after a failed Init, and a call to a
// symbol that an older driver lacks. So there is no way to a call but through a Session, which Open gives
// only after Init succeeded and the symbols of required.go were found; newer ones are looked up before use.
//
// The linker must bind lazily, because NVML's symbols are there only after the library was loaded. Where the
// C compiler defaults to immediate binding (a program then ends at once with «undefined symbol: nvml…»),
// build with -ldflags='-extldflags=-Wl,-z,lazy'.
package nvml
