package gpu

import "fmt"

// xidClass is what an XID means for the GPU.
type xidClass int

const (
	// xidHardware is a GPU that should not be used until it is reset, or well again.
	xidHardware xidClass = iota
	// xidApplication ends programs, by their own mistake or by an error that was contained; the next can run.
	xidApplication
	// xidNotice tells of something that was handled, or that a reading shows better.
	xidNotice
	// xidLink is an NVLink's.
	xidLink
	// xidBus is a GPU that fell off the bus.
	xidBus
	// xidMemory is an uncorrectable memory error.
	xidMemory
)

// classOf sorts XIDs by the immediate action that NVIDIA's catalog names for each
// (https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html): RESTART_APP is the application's,
// IGNORE a notice, RESET_GPU and everything else the hardware's, numbers it doesn't know included.
//
// It departs from the catalog twice, as NVIDIA's device plugin does: 43 (IGNORE) and 109 (RESET_GPU) are what
// programs cause by hanging. Where the GPU does need a reset after one, the driver's recovery action says so
// (XID 154), and that makes the GPU unhealthy.
func classOf(xid uint64) xidClass {
	switch xid {
	case 8, 11, 13, 25, 31, 32, 39, 40, 41, 43, 45, 60, 68, 69, 70, 71, 72, 75, 76, 77, 80, 82, 83, 84, 85, 86, 88, 89, 94, 109, 139:
		return xidApplication
	case 14, 37, 38, 44, 63, 66, 67, 92, 93, 106, 107, 108, 121, 137, 141, 152, 153, 154, 157, 160, 161, 162, 163:
		return xidNotice
	case 74, 136, 144, 145, 146, 147, 148, 149, 150, 155:
		return xidLink
	case 79:
		return xidBus
	case 48, 64, 95, 140, 171, 172:
		return xidMemory
	}
	if xid >= 96 && xid <= 105 || xid >= 126 && xid <= 135 { // decoders, JPEG engines, copy engines
		return xidApplication
	}
	return xidHardware
}

// xidText is the catalog's description of the XIDs that make a GPU unhealthy.
func xidText(xid uint64) string {
	switch xid {
	case 46:
		return "GPU stopped processing"
	case 48:
		return "uncorrectable double-bit ECC error"
	case 54:
		return "auxiliary power is not connected"
	case 62:
		return "internal micro-controller halt"
	case 64:
		return "memory remapping failed"
	case 74:
		return "NVLink error"
	case 79:
		return "the GPU has fallen off the bus"
	case 95:
		return "uncontained memory error"
	case 110:
		return "security fault"
	case 119:
		return "GSP RPC timeout"
	case 120:
		return "GSP error"
	case 136:
		return "link training failed"
	case 140:
		return "unrecovered ECC error"
	case 143:
		return "GPU initialisation error"
	case 151:
		return "key rotation error"
	case 156:
		return "a resource was retired"
	case 158:
		return "GPU fatal timeout"
	case 167:
		return "PCIe fatal timeout"
	}
	if xid >= 144 && xid <= 150 || xid == 155 {
		return "NVLink error"
	}
	return "see NVIDIA's XID catalog"
}

func xidWords(xid uint64) string { return fmt.Sprintf("XID %d: %s", xid, xidText(xid)) }
