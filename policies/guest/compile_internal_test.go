package guest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pintle/pintle/policies/internal/asm"
)

// A caller that stops waiting leaves a compilation behind, which goes on. Others don't wait for it.
func TestOneCompilationThatIsLeftBehindHoldsUpNobody(t *testing.T) {
	module := func(code string) []byte {
		var m asm.Module
		m.Export("run", 0, m.Func(nil, asm.Types{I32}, nil, code))
		return m.Bytes()
	}
	r, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error)
	slow := module("i32.const 1 " + strings.Repeat("i32.const 1 i32.add i32.const 3 i32.mul ", 20_000))
	go func() {
		_, err := r.Compile(ctx, slow, nil)
		left <- err
	}()
	for len(r.slot) == 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Skipf("it ended too soon: %v", err)
	}
	if _, err := r.Compile(t.Context(), module("i32.const 7"), nil); err != nil {
		t.Fatal(err)
	}
	if len(r.stray) == 0 {
		t.Skip("it ended too soon")
	}
	// The next one that is left behind keeps the slot.
	ctx, cancel = context.WithCancel(t.Context())
	go func() {
		_, err := r.Compile(ctx, append(slow, 0, 2, 1, 'x'), nil)
		left <- err
	}()
	for len(r.slot) == 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-left; errors.Is(err, context.Canceled) && len(r.stray) == 1 && len(r.slot) == 0 {
		t.Error("two were left behind, and a third would compile beside them")
	}
}
