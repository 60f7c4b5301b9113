// Package parent is how a subject talks with the benchmark that started it: it prints one line when it
// is ready, and ends when its stdin closes.
package parent

import (
	"context"
	"fmt"
	"io"
	"os"
)

// Context ends when stdin does.
func Context() context.Context {
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	return ctx
}

// Serve runs a part, prints say() once it is ready and returns as it ends.
func Serve(run func(context.Context) error, ready <-chan struct{}, say func() string) error {
	ended := make(chan error, 1)
	ctx := Context()
	go func() { ended <- run(ctx) }()
	select {
	case <-ready:
		fmt.Println(say())
	case err := <-ended:
		return err
	}
	return <-ended
}
