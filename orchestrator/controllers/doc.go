// Package controllers assembles the control loops:
//   - workloads: deployments and replica sets, stateful sets, daemon sets (all with automatic rollback), jobs, cron jobs and
//     the end of finished jobs (ttlafterfinished), disruption budgets, pod garbage;
//   - sizes: horizontal autoscaling of pods (podautoscaler), scale to and from zero, recommendations of requests;
//   - nodes: their life cycle, their TTL annotation, eviction by taint and by devices' taints, GPU consolidation where that is
//     asked for, and node autoscaling where the program brings a provider;
//   - devices: resource claims;
//   - storage: binding, protection and expansion of volumes, claims of ephemeral volumes, attach and detach;
//   - network: endpoint slices, load balancers' addresses, service address ranges, and the Service default/kubernetes;
//   - namespaces and access: namespaces, resource quotas, service accounts and their tokens, aggregated cluster roles, expired
//     bootstrap tokens;
//   - garbage collection by owner, of every kind.
//
// Loops of Jobs, volumes, devices, autoscalers, quotas, roles, address pools and ranges run where Config.Kinds has those kinds.
//
// The types to know:
//   - [Config]: the client that the loops see the cluster through, the kinds it serves, and limits.
//   - [Controllers]: [New] checks the Config and starts nothing; [Controllers.Run] runs every loop
//     until its context ends; [Controllers.Ready] is closed once each has seen what there was.
//   - reconcile.Client, which a registry's client satisfies in process, and reconciletest.Fake, an
//     in-memory one for tests.
//
// Concurrency: New, Ready and Run may be called from any goroutine. Run owns every goroutine that
// it starts and returns nil when all have ended. It may be called once: make a new Controllers for
// each leadership, with a context that ends with it.
//
// The loops share one Client and no other state, and meet only in stored objects. Whatever must
// survive a change of leader (which revision was available, what a rollback left, when a taint was
// set) is stored in objects. Two things start afresh with a leader, on purpose: each silent node
// gets a whole NodeGrace again, since it may have been we who were away, and the series of Events.
//
// Each controller is a folder: decide is pure, from objects to a plan; the shell around it reads,
// writes the plan, and starts again from the present state after any error. See DESIGN.md for when
// a Deployment rolls back by itself.
//
// Caveats: a node that went silent is marked ready again only when its agent posts its status, not
// by its lease alone. Pods of a silent node without a toleration for its taint are evicted as soon
// as it is tainted; the default tolerations of 300 s are the API's to add.
package controllers
