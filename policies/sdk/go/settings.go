package pintle

import (
	"errors"

	"github.com/pintle/pintle/policies/sdk/go/internal/wire"
)

// Settings is what the policy object gives.
type Settings struct {
	JSON         Value    // the settings; no value: there are none
	Policy       string   // name of the policy object
	Capabilities []string // that it grants
}

// Wants is how a request's object and old object are encoded.
type Wants uint32

const (
	JSON     Wants = iota
	Nothing        // the metadata says enough; costs the host nothing
	Protobuf       // Kubernetes' own encoding, without its envelope
)

// Column is eight bytes at the end of each node record.
type Column struct {
	Kind ColumnKind
	Name string // of the label, or of the resource
}

type ColumnKind uint32

const (
	Label       ColumnKind = iota // the id of the label's value
	LabelNumber                   // the label's value as a number; NaN where it is none
	Allocatable                   // of any resource, in thousandths
	Requested                     // likewise
)

// Needs is what a policy asks of the host.
type Needs struct {
	Wants   Wants
	Columns []Column
}

// configure is the policy's own; see Configure.
var configure func(*Settings) (Needs, error)

// Configure names the function that takes the policy's settings. It is called once, before any other call. Its error
// refuses the settings, and is shown in the policy object's status. A policy without one takes no settings.
func Configure(f func(*Settings) (Needs, error)) { configure = f }

// answerSettings takes Settings and appends Configured.
func answerSettings(message, to []byte) []byte {
	var s Settings
	var f wire.Field
	for r := wire.Read(message); r.Next(&f); {
		switch f.Number {
		case 2:
			s.JSON = ParseJSON(f.Bytes)
		case 3:
			s.Policy = f.String()
		case 4:
			s.Capabilities = append(s.Capabilities, f.String())
		}
	}
	var needs Needs
	var err error
	if configure != nil {
		needs, err = configure(&s)
	} else if s.JSON.Exists() {
		err = errors.New("this policy takes no settings")
	}
	if err != nil {
		if err.Error() == "" {
			err = errors.New("the settings are refused")
		}
		return wire.AppendString(to, 1, err.Error())
	}
	to = wire.AppendNumber(to, 2, uint64(needs.Wants))
	var column []byte
	for _, c := range needs.Columns {
		column = wire.AppendNumber(column[:0], 1, uint64(c.Kind))
		column = wire.AppendString(column, 2, c.Name)
		to = wire.AppendBytes(to, 3, column)
	}
	return to
}
