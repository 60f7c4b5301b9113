package guest_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/policies/guest"
	"github.com/pintle/pintle/policies/internal/asm"
)

// counter is a guest that remembers how often it was called: each call of "run" returns one more.
func counter() *asm.Module {
	m := &asm.Module{}
	m.Memory(1, -1)
	m.Global(asm.I32, "i32.const 0")
	m.Export("run", 0, m.Func(none, i32, none, "global.get 0 i32.const 1 i32.add global.set 0 global.get 0"))
	m.Export("fail", 0, m.Func(none, none, none, "unreachable"))
	// spins when it has been called before
	m.Export("first", 0, m.Func(none, i32, none, "global.get 0 if loop br 0 end end i32.const 1 global.set 0 i32.const 42"))
	return m
}

func TestAWarmInstanceIsUsedAgainAndOneThatFailedIsNot(t *testing.T) {
	p := pool(t, counter(), guest.PoolConfig{})
	for want := uint64(1); want <= 3; want++ {
		if got, _, err := call(p, "run"); err != nil || got != want {
			t.Fatalf("call %d returned %d, %v", want, got, err)
		}
	}
	if _, _, err := call(p, "fail"); err == nil {
		t.Fatal("a trap was no error")
	}
	if got, _, err := call(p, "run"); err != nil || got != 1 {
		t.Errorf("after a trap a call returned %d, %v; want 1, from a fresh instance", got, err)
	}
}

func TestAnErrorOfTheCallersOwnDiscardsTheInstance(t *testing.T) {
	p := pool(t, counter(), guest.PoolConfig{})
	mine := errors.New("mine")
	times := 0
	_, err := p.Do(context.Background(), func(ctx context.Context, in *guest.Instance) error { times++; return mine })
	if err != mine || times != 1 {
		t.Errorf("got %v after %d tries", err, times)
	}
	if n, _ := p.Idle(); n != 0 {
		t.Errorf("%d instances are kept", n)
	}
}

func TestAWarmInstanceThatFailsIsTriedOnceMoreAsAFreshOne(t *testing.T) {
	p := pool(t, counter(), guest.PoolConfig{Limits: abi.Limits{Fuel: 10_000}})
	for i := range 3 {
		got, spent, err := call(p, "first")
		if err != nil || got != 42 {
			t.Fatalf("call %d returned %d, %v", i, got, err)
		}
		if i > 0 && spent.Fuel < 10_000 {
			t.Errorf("call %d spent %d fuel: both tries must count", i, spent.Fuel)
		}
	}
	fresh := pool(t, one(none, none, none, "loop br 0 end"), guest.PoolConfig{Limits: abi.Limits{Fuel: 10_000}})
	tries := 0
	_, err := fresh.Do(context.Background(), func(ctx context.Context, in *guest.Instance) error {
		tries++
		_, err := in.Call(ctx, "run")
		return err
	})
	if !errors.Is(err, guest.ErrFuel) || tries != 1 {
		t.Errorf("a fresh instance ended with %v after %d tries", err, tries)
	}
}

func TestSingleUseAndDiscardKeepNothing(t *testing.T) {
	p := pool(t, counter(), guest.PoolConfig{SingleUse: true})
	for range 2 {
		if got, _, err := call(p, "run"); err != nil || got != 1 {
			t.Errorf("returned %d, %v", got, err)
		}
	}
	p = pool(t, counter(), guest.PoolConfig{})
	for range 2 {
		_, err := p.Do(context.Background(), func(ctx context.Context, in *guest.Instance) error {
			in.Discard()
			got, err := in.Call(ctx, "run")
			if got != 1 {
				t.Errorf("returned %d", got)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestMoreIdleInstancesThanAllowedAreNotKept(t *testing.T) {
	p := pool(t, counter(), guest.PoolConfig{MaxIdle: 2})
	var all sync.WaitGroup
	var inside sync.WaitGroup
	inside.Add(5)
	for range 5 {
		all.Go(func() {
			_, err := p.Do(context.Background(), func(ctx context.Context, in *guest.Instance) error {
				inside.Done()
				inside.Wait() // all five are out at once
				_, err := in.Call(ctx, "run")
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	n, bytes := p.Idle()
	if n != 2 || bytes > 2*(64<<10) {
		t.Errorf("%d instances with %d bytes are kept; want 2 of a page each", n, bytes)
	}
}

func TestCloseWaitsForRunningCallsAndLetsNoneBegin(t *testing.T) {
	p := pool(t, counter(), guest.PoolConfig{})
	entered, leave := make(chan struct{}), make(chan struct{})
	done := make(chan error)
	go func() {
		_, err := p.Do(context.Background(), func(ctx context.Context, in *guest.Instance) error {
			close(entered)
			<-leave
			_, err := in.Call(ctx, "run")
			return err
		})
		done <- err
	}()
	<-entered
	short, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := p.Close(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("close returned %v while a call ran", err)
	}
	if _, _, err := call(p, "run"); !errors.Is(err, guest.ErrClosed) {
		t.Errorf("a call after Close returned %v", err)
	}
	close(leave)
	if err := <-done; err != nil {
		t.Errorf("the running call ended with %v", err)
	}
	if err := p.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestThePoolSurvivesACallThatPanics(t *testing.T) {
	p := pool(t, counter(), guest.PoolConfig{})
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_, _ = p.Do(context.Background(), func(context.Context, *guest.Instance) error { panic("mine") })
	}()
	if got, _, err := call(p, "run"); err != nil || got != 1 {
		t.Errorf("afterwards a call returned %d, %v", got, err)
	}
	if err := p.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

// Concurrency: instances are never shared, failures don't spread, pools and modules may come and go meanwhile, and
// every call either gets its answer or the error that it provoked.
func TestHammer(t *testing.T) {
	r := newRuntime(t, guest.Config{})
	m := &asm.Module{}
	m.Memory(1, 4)
	m.Global(asm.I32, "i32.const 0")
	// busy is set while a call runs: two in one instance would trap
	m.Export("run", 0, m.Func(i32, i32, i32, "global.get 0 if unreachable end i32.const 1 global.set 0 "+
		"loop local.get 1 i32.const 1 i32.add local.tee 1 i32.const 50 i32.lt_s br_if 0 end i32.const 0 global.set 0 local.get 0 i32.const 7 i32.mul"))
	m.Export("trap", 0, m.Func(none, none, none, "unreachable"))
	m.Export("spin", 0, m.Func(none, none, none, "loop br 0 end"))
	wasm := m.Bytes()
	var pools [2]atomic.Pointer[guest.Pool]
	for i := range pools {
		pools[i].Store(newPool(t, compile(t, r, wasm), guest.PoolConfig{Limits: abi.Limits{Fuel: 5000}, MaxIdle: 2}))
	}
	var workers sync.WaitGroup
	stop := make(chan struct{})
	var answered atomic.Int64
	for w := range 6 {
		workers.Go(func() {
			for i := w; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				p := pools[i%2].Load()
				switch i % 5 {
				case 0:
					_, _, err := call(p, "trap")
					var trap *guest.Trap
					if !errors.As(err, &trap) && !errors.Is(err, guest.ErrClosed) {
						t.Errorf("trap: %v", err)
					}
				case 1:
					if _, _, err := call(p, "spin"); !errors.Is(err, guest.ErrFuel) && !errors.Is(err, guest.ErrClosed) {
						t.Errorf("spin: %v", err)
					}
				default:
					got, _, err := call(p, "run", uint64(i))
					if errors.Is(err, guest.ErrClosed) {
						continue
					}
					if err != nil || uint32(got) != uint32(i*7) {
						t.Errorf("run(%d) = %d, %v", i, got, err)
					}
					answered.Add(1)
				}
			}
		})
	}
	for i := range 20 { // reloads
		m, err := r.Compile(context.Background(), wasm, nil)
		if err != nil {
			t.Error(err)
			break
		}
		p, err := m.NewPool(guest.PoolConfig{Limits: abi.Limits{Fuel: 5000}, MaxIdle: 2})
		if err != nil {
			t.Error(err)
			break
		}
		old := pools[i%2].Swap(p)
		if err := old.Module().Close(context.Background()); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Millisecond)
	}
	close(stop)
	workers.Wait()
	if answered.Load() == 0 {
		t.Error("no call was answered")
	}
}

func TestTheSameCallSpendsTheSameFuel(t *testing.T) {
	wasm := one(i32, i32, i32, "loop local.get 1 i32.const 3 i32.add local.set 1 local.get 0 i32.const 1 i32.sub local.tee 0 br_if 0 end local.get 1").Bytes()
	seen := map[uint64]bool{}
	for range 2 {
		p := newPool(t, compile(t, newRuntime(t, guest.Config{}), wasm), guest.PoolConfig{})
		for range 3 {
			_, spent, err := call(p, "run", 1000)
			if err != nil {
				t.Fatal(err)
			}
			seen[spent.Fuel] = true
		}
	}
	if len(seen) != 1 {
		t.Errorf("spent %v", seen)
	}
	for fuel := range seen {
		if fuel < 8000 || fuel > 10000 {
			t.Errorf("1,000 turns of 8 instructions cost %d", fuel)
		}
		exact := newPool(t, compile(t, newRuntime(t, guest.Config{}), wasm), guest.PoolConfig{Limits: abi.Limits{Fuel: fuel}})
		if _, _, err := call(exact, "run", 1000); err != nil {
			t.Errorf("with just what it needs: %v", err)
		}
		less := newPool(t, compile(t, newRuntime(t, guest.Config{}), wasm), guest.PoolConfig{Limits: abi.Limits{Fuel: fuel - 1}})
		if _, _, err := call(less, "run", 1000); !errors.Is(err, guest.ErrFuel) {
			t.Errorf("with one less: %v", err)
		}
	}
}

func TestManyPoliciesOfOneModuleHoldLittleEach(t *testing.T) {
	r := newRuntime(t, guest.Config{})
	m := compile(t, r, counter().Bytes())
	var held uint64
	for i := range 64 {
		p := newPool(t, m, guest.PoolConfig{})
		if err := p.Warm(context.Background()); err != nil {
			t.Fatal(fmt.Errorf("policy %d: %w", i, err))
		}
		n, bytes := p.Idle()
		if n != 1 {
			t.Fatalf("%d idle instances", n)
		}
		held += bytes - 64<<10
	}
	if held > 0 {
		t.Errorf("64 idle instances hold %d bytes above their own memory", held)
	}
}
