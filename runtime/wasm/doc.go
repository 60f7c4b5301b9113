// Package wasm runs pods whose images hold a WASI module, in this process, without root.
//
// [New] makes an [Engine], which satisfies runtime.Engine; Run it, wait for Ready, import an archive
// (a wasm layer, or a root filesystem whose entrypoint is a core WASI preview 1 command), and create
// sandboxes and containers. Engines are safe for concurrent use, and several may run in one process.
//
// # Compiling
//
// A module is compiled to machine code before it first runs: a large one written in Go takes some
// seconds of a core, once for each content. ImportImages does it, one module at a time and on one core,
// and the code stays below DataDir/cache, so that containers start at once, also after a restart. A container
// whose module is not compiled yet (imported while the engine did not run, or by another version of it)
// starts when it is.
//
// # What a guest gets
//
// Arguments, environment, a read-only root with the pod's volumes over it, stdout and stderr as CRI
// logs, clocks, random numbers, and one TCP listener as descriptor 3 (Go: net.FileListener). The
// port is the container's annotation pintle.dev/listen, else its first declared TCP port, else its
// variable PINTLE_LISTEN or PORT. Every pod has a loopback address of its own on Linux.
//
// # Limits
//
// Memory: exact; memory.grow fails past the limit, and a guest that then exits with an error is
// OOMKilled. The host's own memory for a guest (compiled code, 128 KiB of buffers a connection) is
// not counted. CPU: the time in guest code is counted by the wall clock, and a guest over its quota
// pauses at its next host call until the quota covers it; one that computes without any host call is
// not slowed until it makes one, though a signal ends it at once. CPU shares are not weighed.
//
// # Signals
//
// WASI has none. SIGTERM, SIGINT and SIGQUIT close the listener; the guest ends when no request is
// in flight (a connection that is answered and silent for a second counts as idle), one without a
// listener at once. SIGKILL and any other signal end it at once. The exit code is 128 + the number.
//
// # Refused, by name
//
// tty, stdin, exec, devices, privileged, added capabilities, hugepages, hostPort, hostPID, hostIPC,
// shareProcessNamespace, sysctls, bidirectional mounts, size limits of memory volumes, and a user or groups beside a
// hostPath volume.
//
// # What a guest's security context means
//
// A guest has no user, no capabilities, no system calls, no /proc and nothing to execute. So dropped
// capabilities, allowPrivilegeEscalation: false, seccomp, AppArmor and procMount hold without doing
// anything, and so does runAsNonRoot as far as the image's user says so. Its root is always read-only,
// readOnlyRootFilesystem or not. runAsUser, runAsGroup, supplementalGroups and fsGroup change nothing
// that a guest could see: its volumes are its pod's alone. A hostPath volume is not, and a guest's files are opened by
// this process, with this process's rights; so beside one they are refused. Without them it is as open to a guest as it
// is to the host program: mount it readOnly where that matters. Guests cannot make links.
package wasm
