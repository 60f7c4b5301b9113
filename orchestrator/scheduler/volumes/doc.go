// Package volumes is the scheduler's book of persistent volumes: which claims, volumes, classes and drivers there are, what was
// promised to pods that aren't bound yet, and on which nodes a pod's claims can be had. It is pure, without API or clock; one
// goroutine may use a Book at a time.
package volumes
