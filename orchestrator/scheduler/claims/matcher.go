package claims

import (
	"fmt"

	resourcev1 "k8s.io/api/resource/v1"

	"github.com/pintle/pintle/orchestrator/api/devicecel"
)

// Matcher evaluates selectors on devices, each on each device once: neither ever changes. The zero value is ready.
type Matcher struct {
	Selectors devicecel.Cache
	said      map[question]answer
}

type question struct {
	expression string
	device     *Device
}

type answer struct {
	yes bool
	err error
}

// remembered bounds a Matcher; what is forgotten is asked again.
const remembered = 1 << 18

func (m *Matcher) match(selectors []resourcev1.DeviceSelector, d *Device) (bool, error) {
	for i := range selectors {
		c := selectors[i].CEL
		if c == nil {
			return false, fmt.Errorf("selector #%d: CEL expression empty (unsupported selector type?)", i)
		}
		q := question{c.Expression, d}
		a, ok := m.said[q]
		if !ok {
			a = m.ask(c.Expression, d)
			if m.said == nil || len(m.said) >= remembered {
				m.said = map[question]answer{}
			}
			m.said[q] = a
		}
		if a.err != nil {
			return false, fmt.Errorf("selector #%d: %w", i, a.err)
		}
		if !a.yes {
			return false, nil
		}
	}
	return true, nil
}

func (m *Matcher) ask(expression string, d *Device) answer {
	s, err := m.Selectors.Selector(expression)
	if err != nil {
		return answer{err: fmt.Errorf("CEL compile error: %w", err)}
	}
	yes, err := s.Matches(d.cel)
	if err != nil {
		return answer{err: fmt.Errorf("device %s: %w", d.ID, err)}
	}
	return answer{yes: yes}
}
