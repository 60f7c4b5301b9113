// Package orchestrator is a whole Kubernetes control plane in one Go type: API server, store,
// scheduler and controllers, in your process, on one port, in one folder.
//
//	o, err := orchestrator.New(orchestrator.Config{DataDir: "/var/lib/mybox"})
//	go o.Run(ctx)
//	<-o.Ready()
//	client, err := kubernetes.NewForConfig(o.RESTConfig())
//
// The types to know: Config says what you want, Orchestrator is it. New checks the config and
// starts nothing; Run blocks until its context ends and everything that it started has ended; Ready
// is closed once the API serves and the store has a leader.
//
// RESTConfig and RESTConfigAs give client-go and controller-runtime a connection without a socket.
// Kubeconfig gives kubectl one over TLS, if there is a Listener or an Address.
//
// Backup writes the whole cluster while it runs, and Restore makes a new DataDir of it.
//
// Several Orchestrators on several machines are one cluster: JoinToken invites, and Config.Join names the
// token. Each is a member, holds the whole state and answers every request; one of them leads, and only it runs
// scheduler and controllers. Members, PromoteMember, RemoveMember and HandOver are theirs, as are the Member
// objects that kubectl shows.
//
// Config.Policies has WebAssembly modules decide about writes and placements, as the objects of policy.pintle.dev say:
// see package policy and its README.
//
// Nothing here is global: two Orchestrators live in one process, and one can be made again on the
// same folder after the first has ended. Nodes that run containers are the runtime package's;
// orchestrator/appliance wires everything together.
package orchestrator
