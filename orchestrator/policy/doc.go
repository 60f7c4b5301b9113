// Package policy has WebAssembly policies decide about writes and placements: it brings the objects of
// policy.pintle.dev into a Host, asks the host, and does what it says.
//
// The types to know: Host is what runs the modules (*policies.Host, or a fake in tests); Engine is everything else.
// New makes one and starts nothing. It is a registry.Admitter and a scheduler.Policy from then on; Run follows the
// stored objects, on every member, so that each decides the same; Report writes statuses, on the member that leads.
//
// # One write
//
// Admit takes the policies that match (match.go: the rules of ValidatingAdmissionPolicy), those that mutate first, each
// type by order and name. A policy sees the object as the one before left it. What becomes of its answer its mode
// says, and of a policy that can't be asked its failurePolicy (admit.go).
//
// # What no policy is asked about
//
// Objects of policy.pintle.dev, so that no policy can lock out its own removal; and the few objects that the control
// plane cannot start without, which it creates itself (registry.Client.Unquestioned). Everything else follows the
// match rules, leases, events and Members included: as with webhooks, a policy that matches everything and fails
// stops everything, until it is deleted.
//
// # Swaps
//
// A module or a policy that changes is brought into the host in the background. Until it is there, and if it never
// comes to be, the previous one decides, as a whole: module, settings, rules and mode. A policy that has never been
// ready has no previous one: writes that it matches wait for some seconds, and then failurePolicy decides.
//
// # Concurrency properties
//
// Admit and the methods of scheduler.Policy may be called from any goroutine, before Run too: they wait for it. They
// read a table that is replaced as a whole and never changed. Only Run's goroutines change what the host has.
package policy
