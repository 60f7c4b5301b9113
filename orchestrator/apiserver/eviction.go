package apiserver

import (
	"net/http"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
)

// evict deletes a pod if its budget allows the disruption.
func (c *call) evict(w http.ResponseWriter, r *http.Request) error {
	opts, err := c.writeOptions(r, createOptionsKind)
	if err != nil {
		return err
	}
	var eviction policyv1.Eviction
	neg, err := c.readBeside(w, r, policyv1.SchemeGroupVersion.WithKind("Eviction"), &eviction, opts)
	if err != nil {
		return err
	}
	if err := c.checkIdentity(&eviction); err != nil {
		return err
	}
	var del metav1.DeleteOptions
	if eviction.DeleteOptions != nil {
		del = *eviction.DeleteOptions
	}
	if err := invalidOptions(deleteOptionsKind, validation.ValidateDeleteOptions(&del)); err != nil {
		return err
	}
	opts.dryRun = opts.dryRun || len(del.DryRun) > 0
	if opts.dryRun {
		del.DryRun = []string{metav1.DryRunAll}
	}
	if err := c.registry.Evict(r.Context(), c.namespace, c.name, del, c.updateOptions(opts)); err != nil {
		return err
	}
	return c.writeObject(w, r, http.StatusCreated, success(), neg)
}
