// Package volumes says which PersistentVolume a claim may have, and how the two are bound: what the binder and the scheduler
// both decide by. Everything in it is pure, and changes no object that it is given.
package volumes
