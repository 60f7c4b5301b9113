// Package runtime is the node: its Agent runs the pods that are bound to one node name and reports
// what became of them.
//
// Types to know: Config and New make an Agent, Agent.Run serves, Agent.Handler answers logs, exec,
// attach and port-forward under the kubelet's paths. Engine is what runs containers
// (runtime/containerd, runtime/wasm); Devices (orchestrator/appliance/gpus) and Drainer are the seams to GPUs and to the
// proxy.
//
// The Agent talks to the API with a kubernetes.Interface and with nothing else, so it works the
// same beside the control plane and on another machine.
//
// # Volumes
//
// Claims' volumes are folders of the machine (claims, fsgroup; localpath makes them for the provisioner pintle.dev/local-path)
// or a storage driver's (csi). A pod that mounts /var/lib/kubelet gets the folder "kubelet" of DataDir: KubeletDir.
//
// # What ends when
//
// When Run's context ends, containers of an engine that can keep them run on and the next Run adopts
// them by their labels. RemoveAll takes every pod off the node, for an orderly end.
//
// # Concurrency
//
// Each pod has one goroutine that observes, decides (decide is pure) and acts; each probe has
// another; nothing else changes a pod. All methods of Agent are safe for concurrent use. Run runs
// once at a time. A panic while one pod is worked on is logged and tried again with back-off: it
// doesn't reach the other pods or the host.
package runtime
