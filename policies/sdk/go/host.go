package pintle

// Level says how much a line matters.
type Level uint32

const (
	Debug Level = iota
	Info
	Warn
	Error
)

// Log writes a line to the host's log.
func Log(l Level, line string) { logLine(l, line) }

// Intern returns the id that node records have for a string. It is the same as long as the instance lives.
func Intern(s string) uint32 { return intern(s) }

// NowMs is Unix time in milliseconds, the same throughout a call. It needs the capability "clock"; 0 without it.
func NowMs() int64 { return nowMs() }

// Lookup reads a cluster object, named "group/version/resource/namespace/name", or with an empty name all of a namespace:
// {"items": […]}. It needs the capability "read:group/resource". What isn't there is no value.
func Lookup(path string) Value { return ParseJSON(lookup(path)) }
