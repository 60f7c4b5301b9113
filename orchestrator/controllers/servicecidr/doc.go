// Package servicecidr keeps ServiceCIDRs and IPAddresses, as
// https://kubernetes.io/docs/tasks/network/extend-service-ip-ranges/ describes them.
//
// The range that the cluster was made with is the ServiceCIDR "kubernetes", which is made again when it is missing;
// others add addresses at run time. One that is being deleted gives no more addresses (package registry), and goes once
// no Service has one of its addresses that no other ServiceCIDR holds.
//
// Every cluster IP of a Service is an IPAddress. Which Service has which address is decided where Services are written,
// so that these objects follow, and are repaired, whatever is done to them. An IPAddress that somebody else makes keeps
// its address from other Services.
package servicecidr
