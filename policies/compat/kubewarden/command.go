package kubewarden

import (
	"bytes"
	"context"
	"errors"
	"strings"

	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/policies/guest"
)

// runCommand runs one operation of a WASI command: the operation is its argument, the payload its standard input, and
// the answer what it writes to standard output. Each operation gets an instance of its own.
func (e *evaluator) runCommand(ctx context.Context, operation string, payload []byte, read func([]byte) error) (abi.Spent, error) {
	return e.pool.Do(ctx, func(ctx context.Context, in *guest.Instance) error {
		var out, complaint bytes.Buffer
		in.State = &conversation{host: &e.host}
		in.Args = []string{"policy.wasm", strings.ReplaceAll(operation, "_", "-")}
		in.Stdin, in.Stdout, in.Stderr = payload, &out, &complaint
		err := ended(call(ctx, in, "_start"))
		if exit := new(guest.Exit); errors.As(err, &exit) && complaint.Len() > 0 {
			return &guestError{cut(bytes.TrimSpace(complaint.Bytes()))}
		}
		if err != nil {
			return err
		}
		return read(out.Bytes())
	})
}

// ended takes a guest that exits with 0 for one that returns.
func ended(err error) error {
	if exit := new(guest.Exit); errors.As(err, &exit) && exit.Code == 0 {
		return nil
	}
	return err
}

// commandCall is a WASI command's host call: the reply, or the refusal, comes over standard input, and the result is 1
// for a refusal.
func commandCall(ctx context.Context, in *guest.Instance, s []uint64) error {
	c, ok := in.State.(*conversation)
	if !ok {
		return errors.New("host call before the module is set up")
	}
	r, err := c.host.fromGuest(ctx, in, s)
	if err != nil {
		return err
	}
	if s[0] = 0; r.refusal != "" {
		r.payload, s[0] = []byte(r.refusal), 1
	}
	in.Stdin = append(in.Stdin[:len(in.Stdin):len(in.Stdin)], r.payload...)
	return nil
}
