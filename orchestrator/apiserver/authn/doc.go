// Package authn says who a request comes from.
//
// The types to know: User is who; an Authenticator finds the User of a request; Union asks
// several in turn and Anonymous answers when none of them knows. ClientCertificate,
// StaticTokens, ServiceAccountTokens and InProcess are the ways to be somebody; Issuer makes the
// tokens that ServiceAccountTokens accepts.
//
// Everything here is safe for concurrent use and keeps no state beside its configuration.
package authn
