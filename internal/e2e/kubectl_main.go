// Package e2e tests the whole product with the tools that people use: the newest kubectl,
// client-go and controller-runtime. It is a module of its own so that importers of Pintle
// inherit none of them.
package e2e
