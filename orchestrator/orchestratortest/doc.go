// Package orchestratortest gives a test a real control plane in its own process: API server, store,
// scheduler and controllers, in memory, without binaries, root or a port, in a fraction of a second.
//
//	func TestMyOperatorScalesTheShop(t *testing.T) {
//		cluster := orchestratortest.Start(t) // ends with the test
//		cluster.AddNode(t, "one")            // for the scheduler
//		go myoperator.Run(t.Context(), cluster.RESTConfig())
//		…
//		shop, err := cluster.Client.AppsV1().Deployments("default").Get(t.Context(), "shop", metav1.GetOptions{})
//	}
//
// Cluster is an orchestrator.Orchestrator: its RESTConfig is what controller-runtime's managers take, and
// its RESTConfigAs shows what a user without rights gets. Tests may run in parallel, each on a cluster of
// its own.
//
// StartMembers makes a control plane of several members, which Stop ends in an orderly way and Kill does not.
//
// Policies decide as in production where the test gives Config.Policies a *policies.Host that it runs; without one their
// objects are stored and nobody asks them.
//
// Nothing runs pods here: they are scheduled and stay Pending, until the test writes their statuses as
// their node's agent would. For pods that run, orchestrator/appliance with its wasm engine needs no root
// either.
package orchestratortest
