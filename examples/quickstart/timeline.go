package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"
)

// timeline prints what happens, with the time since the start, and says what is being waited for
// while a step is slow.
type timeline struct {
	out   io.Writer
	start time.Time

	mu      sync.Mutex
	doing   string
	printed string
}

func newTimeline(out io.Writer) *timeline { return &timeline{out: out, start: time.Now()} }

func (t *timeline) say(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(t.out, "%8.2fs  %s\n", time.Since(t.start).Seconds(), fmt.Sprintf(format, args...))
}

// waiting sets what is waited for now.
func (t *timeline) waiting(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.doing = fmt.Sprintf(format, args...)
}

// step runs one step of the story, and prints what it is at every two seconds.
func (t *timeline) step(ctx context.Context, number int, title string, do func(context.Context) error) error {
	t.waiting("")
	ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Minute, fmt.Errorf("it took more than 5 minutes"))
	defer cancel()
	done := make(chan struct{})
	var ticking sync.WaitGroup
	ticking.Go(func() {
		ticker := time.NewTicker(2 * time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				t.progress()
			}
		}
	})
	began := time.Now()
	err := do(ctx)
	close(done)
	ticking.Wait()
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = fmt.Errorf("%w (%w)", err, cause)
		}
		t.say("✗ %d. %s", number, title)
		return fmt.Errorf("step %d, %s: %w", number, title, err)
	}
	t.say("✓ %d. %s (%.2f s)", number, title, time.Since(began).Seconds())
	return nil
}

func (t *timeline) progress() {
	t.mu.Lock()
	doing := t.doing
	t.mu.Unlock()
	if doing != "" {
		t.say("   … %s", doing)
	}
}
