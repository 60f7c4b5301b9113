// Package orchestratortest gives a test a real control plane in its own process: API server, store,
// scheduler and controllers, in memory, without binaries, root or a port, in a fraction of a second.
//
//	cluster := orchestratortest.Start(t)
//	pods, err := cluster.Client.CoreV1().Pods("default").List(ctx, metav1.ListOptions{})
//
// It has no nodes: create Node objects for the scheduler, and write pods' statuses as their agent would.
package orchestratortest
