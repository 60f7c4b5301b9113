package raftstore

// SetFault has f asked before each kind of disk operation, by its label.
func SetFault(c *Config, f func(op string) error) { c.fault = f }
