package wasm

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pintle/pintle/runtime"
)

func TestEachModuleIsCompiledOnceAndOneAtATime(t *testing.T) {
	var busy, most atomic.Int32
	var mu sync.Mutex
	compiled := map[string]int{}
	var running sync.WaitGroup
	c := newCompiler(func(_ context.Context, module []byte) error {
		now := busy.Add(1)
		defer busy.Add(-1)
		mu.Lock()
		defer mu.Unlock()
		most.Store(max(most.Load(), now))
		compiled[string(module)]++
		return nil
	}, nil, &running, quiet)
	var callers sync.WaitGroup
	for range 10 {
		for _, module := range []string{"v1", "v2", "v3"} {
			callers.Go(func() {
				if err := c.ensure(t.Context(), []byte(module)); err != nil {
					t.Error(err)
				}
			})
		}
	}
	callers.Wait()
	running.Wait()
	if compiled["v1"] != 1 || compiled["v2"] != 1 || compiled["v3"] != 1 || most.Load() != 1 {
		t.Errorf("compiled %v, %d at a time", compiled, most.Load())
	}
}

func TestAFailedCompilationIsTriedAgainAndAPanicIsAFailure(t *testing.T) {
	tries := 0
	var running sync.WaitGroup
	c := newCompiler(func(context.Context, []byte) error {
		switch tries++; tries {
		case 1:
			return errors.New("out of memory")
		case 2:
			panic("index out of range")
		}
		return nil
	}, nil, &running, quiet)
	for try := 1; try <= 4; try++ {
		if err := c.ensure(t.Context(), []byte("module")); (err == nil) != (try > 2) {
			t.Errorf("try %d: %v", try, err)
		}
	}
	running.Wait()
	if tries != 3 {
		t.Errorf("compiled %d times, want 3", tries)
	}
}

func TestACallerThatGivesUpLeavesTheCompilationToOthers(t *testing.T) {
	begun, goOn := make(chan struct{}), make(chan struct{})
	var running sync.WaitGroup
	c := newCompiler(func(ctx context.Context, _ []byte) error {
		close(begun)
		<-goOn
		return ctx.Err()
	}, nil, &running, quiet)
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() { first <- c.ensure(ctx, []byte("module")) }()
	<-begun
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the caller that gave up got %v", err)
	}
	close(goOn)
	if err := c.ensure(t.Context(), []byte("module")); err != nil {
		t.Error(err)
	}
	running.Wait()
}

func TestNothingBeginsToCompileOnceTheEngineEnds(t *testing.T) {
	begun, goOn, ending := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var running sync.WaitGroup
	c := newCompiler(func(_ context.Context, module []byte) error {
		if string(module) != "first" {
			t.Errorf("compiled %s", module)
		}
		close(begun)
		<-goOn
		return nil
	}, ending, &running, quiet)
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- c.ensure(t.Context(), []byte("first")) }()
	<-begun
	go func() { second <- c.ensure(t.Context(), []byte("second")) }()
	close(ending)
	if err := <-second; !errors.Is(err, ErrNotRunning) {
		t.Errorf("the module that waited: %v", err)
	}
	close(goOn)
	if err := <-first; err != nil {
		t.Error(err)
	}
	running.Wait()
}

// An image's module is compiled by its import; its containers load what lies on disk.
func TestImportingCompilesAndStartingDoesNot(t *testing.T) {
	e := running(t)
	e.compiler.mu.Lock()
	imported := len(e.compiler.modules)
	e.compiler.mu.Unlock()
	e.compiler.compile = func(context.Context, []byte) error { return errors.New("a container's start compiled") }
	for _, id := range []string{"a", "b"} {
		start(t, e, id, nil, "exit", "0")
		if what := e.Preparing(id); what != "" {
			t.Errorf("%s would wait for %s", id, what)
		}
		if c := wait(t, e, id); c.State != runtime.Exited {
			t.Errorf("%s: %+v", id, c)
		}
	}
	if imported != 1 {
		t.Errorf("the import compiled %d modules", imported)
	}
}

// After a restart of the engine nothing is known to be compiled, and the container's pod says so.
func TestAContainerSaysThatItWaitsForItsModule(t *testing.T) {
	e := running(t)
	e.compiler.mu.Lock()
	clear(e.compiler.modules)
	e.compiler.mu.Unlock()
	if _, err := e.CreateSandbox(t.Context(), runtime.SandboxSpec{ID: "pod"}); err != nil {
		t.Fatal(err)
	}
	if err := e.CreateContainer(t.Context(), runtime.ContainerSpec{ID: "c", SandboxID: "pod", Image: reference}); err != nil {
		t.Fatal(err)
	}
	if what := e.Preparing("c"); what != `compiling the module of image "guest:1"` {
		t.Errorf("waits for %q", what)
	}
}

func quiet(string, ...any) {}
