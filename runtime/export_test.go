package runtime

import "github.com/pintle/pintle/runtime/cpus"

// SetMachine has an agent work with another machine's CPUs.
func (c *Config) SetMachine(m *cpus.Machine) { c.machine = m }
