package device

import "time"

// Reading is what a GPU says of itself at a moment. A nil pointer is what it can't tell.
type Reading struct {
	At time.Time

	GPUUtil, MemUtil *uint32 // percent of the driver's sample period
	EncUtil, DecUtil *uint32

	MemoryUsed, MemoryFree, MemoryReserved *uint64 // bytes

	Temperature, MemoryTemperature     *uint32 // degrees Celsius
	SlowdownTemperature, ShutdownLimit *uint32
	Power                              *uint32 // milliwatts
	Energy                             *uint64 // millijoules since the driver was loaded
	SMClock, MemClock                  *uint32 // MHz
	PCIeReplays                        *uint64
	Throttle                           Throttle

	ECCCorrected, ECCUncorrected *uint64 // volatile: since the driver was loaded
	Rows                         *RemappedRows
	RetiredPending               *bool // pages wait for a reset to be retired
	Recovery                     RecoveryAction

	LinksUp    int                  // NVLinks that are active
	LinkErrors []LinkErrors         // one per active link that counts
	Processes  []Process            // compute processes, as this PID namespace sees them
	MIGMemory  map[string]MIGMemory // by UUID of the instance
}

// MIGMemory is the memory of a MIG instance, in bytes.
type MIGMemory struct{ Used, Free uint64 }

// Process is a program with a context on a GPU.
type Process struct {
	PID    uint32
	Memory *uint64 // bytes; nil where the driver doesn't tell, as in some containers
	Util   *uint32 // percent of the multiprocessors lately
	GI, CI int     // -1 outside MIG
}

// RemappedRows says how the GPU repaired its memory.
type RemappedRows struct {
	Correctable, Uncorrectable int
	Pending                    bool // a reset is needed before the remapping takes effect
	Failed                     bool // no rows are left to repair with
}

// LinkErrors counts what an NVLink had to recover from.
type LinkErrors struct {
	Link                       int
	Replay, Recovery, CRCFlits uint64
}

// Throttle is why clocks are below what they could be, as NVML's clocks event reasons.
type Throttle uint64

// The bits of Throttle.
const (
	ThrottleIdle           Throttle = 0x1
	ThrottleClocksSetting  Throttle = 0x2
	ThrottleSWPowerCap     Throttle = 0x4
	ThrottleHWSlowdown     Throttle = 0x8 // temperature, power brake or a fast trigger: clocks halved or worse
	ThrottleSyncBoost      Throttle = 0x10
	ThrottleSWThermal      Throttle = 0x20
	ThrottleHWThermal      Throttle = 0x40
	ThrottleHWPowerBrake   Throttle = 0x80
	ThrottleDisplaySetting Throttle = 0x100
	throttleNames                   = 9
)

// Names are the reasons in words, in the order of their bits.
func (t Throttle) Names() []string {
	var names []string
	for i, name := range [throttleNames]string{"idle", "clocks setting", "software power cap", "hardware slowdown", "sync boost",
		"software thermal slowdown", "hardware thermal slowdown", "hardware power brake", "display clock setting"} {
		if t&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// RecoveryAction is what the driver asks for, where it is new enough to say.
type RecoveryAction int

// What a driver can ask for.
const (
	RecoveryUnknown RecoveryAction = iota - 1
	RecoveryNone
	RecoveryReset
	RecoveryReboot
	RecoveryDrainP2P
	RecoveryDrainAndReset
	RecoveryIMEX
)

func (a RecoveryAction) String() string {
	switch a {
	case RecoveryNone:
		return "none"
	case RecoveryReset:
		return "reset the GPU"
	case RecoveryReboot:
		return "reboot the node"
	case RecoveryDrainP2P:
		return "drain what uses peer-to-peer"
	case RecoveryDrainAndReset:
		return "drain the GPU and reset it"
	case RecoveryIMEX:
		return "recover the IMEX domain"
	}
	return "unknown"
}

// EventKind is what an Event tells of.
type EventKind int

// The kinds of events.
const (
	EventXID EventKind = iota + 1
	EventECCCorrected
	EventECCUncorrected
	EventMIGChanged // instances were made or destroyed
	EventGPUUnavailable
	EventRecovery // the recovery action changed
)

func (k EventKind) String() string {
	switch k {
	case EventXID:
		return "XID"
	case EventECCCorrected:
		return "corrected ECC error"
	case EventECCUncorrected:
		return "uncorrected ECC error"
	case EventMIGChanged:
		return "MIG configuration changed"
	case EventGPUUnavailable:
		return "GPU unavailable"
	case EventRecovery:
		return "recovery action changed"
	}
	return "unknown event"
}

// Event is something that a driver reports when it happens.
type Event struct {
	UUID   string // of the GPU; "" where the driver couldn't tell which
	Kind   EventKind
	XID    uint64
	GI, CI int // of the MIG instance; -1: the whole GPU
}
