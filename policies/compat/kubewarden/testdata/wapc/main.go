// A waPC policy as Kubewarden's SDKs make them: it registers validate, validate_settings and protocol_version. Its
// settings say what it requires, and how it misbehaves.
package main

import (
	"encoding/json"
	"fmt"
	"unsafe"
)

//go:wasmimport wapc __guest_request
func guestRequest(op, payload unsafe.Pointer)

//go:wasmimport wapc __guest_response
func guestResponse(ptr unsafe.Pointer, n uint32)

//go:wasmimport wapc __guest_error
func guestError(ptr unsafe.Pointer, n uint32)

//go:wasmimport wapc __host_call
func hostCall(bd unsafe.Pointer, bdLen uint32, ns unsafe.Pointer, nsLen uint32, op unsafe.Pointer, opLen uint32, ptr unsafe.Pointer, n uint32) uint32

//go:wasmimport wapc __host_response_len
func hostResponseLen() uint32

//go:wasmimport wapc __host_response
func hostResponse(ptr unsafe.Pointer)

//go:wasmimport wapc __host_error_len
func hostErrorLen() uint32

//go:wasmimport wapc __host_error
func hostError(ptr unsafe.Pointer)

//go:wasmimport wapc __console_log
func consoleLog(ptr unsafe.Pointer, n uint32)

type settings struct {
	Required []string        // labels
	Label    string          // is added to what is accepted
	Call     *call           // is made, and its outcome is the message of a refusal
	Do       string          // misbehaviour
	Answer   json.RawMessage // is given as it is
}

type call struct{ Binding, Namespace, Operation, Payload string }

var calls int // that this instance has served

//go:wasmexport __guest_call
func guestCall(opLen, payloadLen uint32) uint32 {
	op, payload := make([]byte, opLen+1), make([]byte, payloadLen+1)
	guestRequest(unsafe.Pointer(&op[0]), unsafe.Pointer(&payload[0]))
	answer, err := serve(string(op[:opLen]), payload[:payloadLen])
	if err != nil {
		message := []byte(err.Error())
		guestError(unsafe.Pointer(unsafe.SliceData(message)), uint32(len(message)))
		return 0
	}
	guestResponse(unsafe.Pointer(unsafe.SliceData(answer)), uint32(len(answer)))
	return 1
}

func serve(op string, payload []byte) ([]byte, error) {
	switch op {
	case "protocol_version":
		return []byte(`"v1"`), nil
	case "validate_settings":
		var s settings
		if err := json.Unmarshal(payload, &s); err != nil {
			return json.Marshal(map[string]any{"valid": false, "message": err.Error()})
		}
		return json.Marshal(map[string]any{"valid": true})
	case "validate":
		return validate(payload)
	}
	return nil, fmt.Errorf("Could not find function \"%s\"", op)
}

func validate(payload []byte) ([]byte, error) {
	var q struct {
		Request struct {
			UID       string
			Operation string
			Object    map[string]any
		}
		Settings settings
	}
	if err := json.Unmarshal(payload, &q); err != nil {
		return nil, err
	}
	calls++
	if err := misbehave(q.Settings.Do); err != nil {
		return nil, err
	}
	if q.Settings.Answer != nil {
		return q.Settings.Answer, nil
	}
	if c := q.Settings.Call; c != nil {
		return json.Marshal(map[string]any{"accepted": false, "code": 418, "message": ask(c)})
	}
	metadata, _ := q.Request.Object["metadata"].(map[string]any)
	labels, _ := metadata["labels"].(map[string]any)
	for _, key := range q.Settings.Required {
		if _, ok := labels[key]; !ok {
			return json.Marshal(map[string]any{"accepted": false, "message": "label " + key + " is missing",
				"warnings": []string{"look at " + q.Request.UID}, "audit_annotations": map[string]string{"missing": key}})
		}
	}
	if l := q.Settings.Label; l != "" {
		if labels == nil {
			labels = map[string]any{}
			if metadata != nil {
				metadata["labels"] = labels
			}
		}
		labels[l] = "yes"
		return json.Marshal(map[string]any{"accepted": true, "mutated_object": q.Request.Object})
	}
	return []byte(`{"accepted":true}`), nil
}

func ask(c *call) string {
	parts := [4]string{c.Binding, c.Namespace, c.Operation, c.Payload}
	p := func(i int) (unsafe.Pointer, uint32) {
		return unsafe.Pointer(unsafe.StringData(parts[i])), uint32(len(parts[i]))
	}
	a, al := p(0)
	b, bl := p(1)
	o, ol := p(2)
	d, dl := p(3)
	if hostCall(a, al, b, bl, o, ol, d, dl) == 1 {
		reply := make([]byte, hostResponseLen()+1)
		hostResponse(unsafe.Pointer(&reply[0]))
		return string(reply[:len(reply)-1])
	}
	reply := make([]byte, hostErrorLen()+1)
	hostError(unsafe.Pointer(&reply[0]))
	return "refused: " + string(reply[:len(reply)-1])
}

var sink [][]byte

func misbehave(how string) error {
	switch how {
	case "panic":
		panic("on purpose")
	case "spin":
		for {
			calls++
		}
	case "grow":
		for {
			sink = append(sink, make([]byte, 1<<20))
		}
	case "lie":
		guestResponse(unsafe.Pointer(uintptr(0xfffffff0)), 0x1000)
	case "flood":
		huge := make([]byte, 5<<20)
		guestResponse(unsafe.Pointer(&huge[0]), uint32(len(huge)))
	case "chatter":
		line := []byte("again")
		for {
			consoleLog(unsafe.Pointer(&line[0]), uint32(len(line)))
		}
	case "liecall":
		hostCall(unsafe.Pointer(uintptr(0xffffff00)), 0xffff, nil, 0, nil, 0, nil, 0)
	case "second": // decides by what it did before
		if calls > 1 {
			panic("the second time")
		}
	case "fail":
		return fmt.Errorf("failed on purpose")
	}
	return nil
}

func main() {}

// poke calls a host function with whatever the test wants.
//
//go:wasmexport poke
func poke(which, a, b, c, d, e, f, g, h uint32) uint32 {
	p := func(n uint32) unsafe.Pointer { return unsafe.Pointer(uintptr(n)) }
	switch which % 9 {
	case 0:
		guestRequest(p(a), p(b))
	case 1:
		guestResponse(p(a), b)
	case 2:
		guestError(p(a), b)
	case 3:
		return hostCall(p(a), b, p(c), d, p(e), f, p(g), h)
	case 4:
		return hostResponseLen()
	case 5:
		hostResponse(p(a))
	case 6:
		return hostErrorLen()
	case 7:
		hostError(p(a))
	case 8:
		consoleLog(p(a), b)
	}
	return 0
}
