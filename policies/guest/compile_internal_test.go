package guest

import (
	"context"
	"errors"
	"testing"

	"github.com/pintle/pintle/policies/internal/asm"
)

// A caller that stops waiting leaves a compilation behind, which goes on. Others don't wait for it, but for a second one.
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
	begun, end := make(chan struct{}), make(chan struct{})
	slow := true // set while no compilation runs that would read it
	r.begun = func(*Info) {
		if slow {
			begun <- struct{}{}
			<-end
		}
	}
	defer func() {
		close(end)
		if err := r.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	leave := func(code string) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error)
		go func() {
			_, err := r.Compile(ctx, module(code), nil)
			left <- err
		}()
		<-begun
		cancel()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	leave("i32.const 1")
	slow = false
	if _, err := r.Compile(t.Context(), module("i32.const 7"), nil); err != nil {
		t.Fatal(err)
	}
	slow = true
	leave("i32.const 2")
	if len(r.stray) != 1 || len(r.slot) != 1 {
		t.Error("two were left behind, and a third would compile beside them")
	}
}
