// Package controllerruntime holds the tests of controller-runtime's manager on an orchestrator in the same
// process. It is apart from the end-to-end tests because it needs no host.
package controllerruntime
