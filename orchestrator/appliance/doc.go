// Package appliance is the whole product on one machine: control plane, node, proxy, DNS and
// ingress, wired together in one process. It is the one room where the parts meet.
//
// An Appliance runs real containers on a containerd of its own where it can (Linux, root, Debian's
// containerd, runc and CNI plugins), and WASI pods in process with a user-space proxy elsewhere.
// Choice says which and why.
//
// With Config.Join it becomes part of a cluster that is there: a member of the control plane with a node of its
// own, or, with Worker, a node alone, which listens on nothing and is reached through connections that it dials.
//
// Everything that it makes on the host is named after the cluster, so that two run side by side; a node that
// joined a cluster names its things after the cluster and itself, for nodes of one cluster may share a kernel and
// with it the cgroups.
// When Run ends, containers run on and the next Run adopts them; Teardown takes everything off the host.
package appliance
