// Package authz says who may do what.
//
// The types to know: Attributes is one question, an Authorizer answers it. RBAC evaluates roles
// and bindings from a Lister, Node knows what an agent needs for the pods bound to it, and Union
// asks several. CheckEscalation stops people from granting what they don't hold.
// Defaults are the roles and bindings that every cluster has. Forbidden prints a refusal as
// Kubernetes does.
//
// Nothing here keeps state: answers come from the lister at the moment of the question.
package authz
