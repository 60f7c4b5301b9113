package guest

import (
	"context"
	"sync"
	"time"
)

// callContext is the context of one call: the caller's, with the call's deadline and instance. It lives in the instance
// and is used again by its next call, and the timer behind Done starts only when somebody asks: a call that never
// waits allocates nothing.
type callContext struct {
	in    *Instance
	epoch time.Time // times are counted from here, by the monotonic clock alone: that is cheaper to read

	// Begin and end alone write the next two, on the goroutine of the call, which may read them without mu.
	mu       sync.Mutex
	parent   context.Context
	deadline time.Duration   // 0: none
	timed    context.Context // made by the first Done
	cancel   context.CancelFunc
}

type instanceKey struct{}

// instanceOf finds the instance that a host function was called by. nil: the context isn't Do's.
func instanceOf(ctx context.Context) *Instance {
	if c, ok := ctx.(*callContext); ok {
		return c.in
	}
	in, _ := ctx.Value(instanceKey{}).(*Instance)
	return in
}

func (c *callContext) begin(parent context.Context, deadline time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.parent, c.deadline = parent, deadline
}

func (c *callContext) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cancel != nil {
		c.cancel()
	}
	c.timed, c.cancel = nil, nil
	c.parent, c.deadline = ended, 0
}

// ended is the parent of a call that is over, for those who kept its context.
var ended = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

func (c *callContext) Deadline() (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	own := c.epoch.Add(c.deadline)
	if d, ok := c.parent.Deadline(); ok && (c.deadline == 0 || d.Before(own)) {
		return d, true
	}
	return own, c.deadline > 0
}

func (c *callContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deadline == 0 {
		return c.parent.Done()
	}
	if c.timed == nil {
		c.timed, c.cancel = context.WithDeadlineCause(c.parent, c.epoch.Add(c.deadline), ErrTimeout)
	}
	return c.timed.Done()
}

func (c *callContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timed != nil {
		return c.timed.Err()
	}
	if err := c.parent.Err(); err != nil {
		return err
	}
	if c.deadline > 0 && time.Since(c.epoch) >= c.deadline {
		return context.DeadlineExceeded
	}
	return nil
}

func (c *callContext) Value(key any) any {
	if _, ok := key.(instanceKey); ok {
		return c.in
	}
	c.mu.Lock()
	parent := c.parent
	c.mu.Unlock()
	return parent.Value(key)
}
