// Package devicecel evaluates the CEL expressions by which ResourceClaims and DeviceClasses select devices, as the
// documentation of resource.k8s.io/v1 CELDeviceSelector has them. It is a leaf.
//
// Types to know: [Selector] (an expression, compiled), [Device] (what it is asked about) and [Cache] (each expression
// is compiled once). All are safe for concurrent use. No expression can cost more than
// CELSelectorExpressionMaxCost steps, and one that fails is an error, never a panic.
package devicecel
