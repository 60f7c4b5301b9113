// Package containerd runs pods on containerd: it implements runtime.Engine with containerd's client
// against a daemon of its own (the default) or one that is there (Config.Address).
//
// Types to know: Config says where things live, New checks it, Engine.Run serves, Engine.Teardown
// takes everything off the host again.
//
// # What ends when
//
// When Run's context ends nothing on the host changes: containers, their networks and the private
// containerd go on, and the next Run adopts them. StopDaemon ends the private containerd only; its
// containers go on. Teardown ends everything and leaves the host as it was; only what lies below
// DataDir (images, logs) stays.
//
// # Concurrency
//
// All methods of Engine are safe for concurrent use. Run runs once at a time; StopDaemon and
// Teardown are refused while it runs.
//
// Linux only, as root. Elsewhere New returns an error.
package containerd
