package registry

import "context"

type warningsKey struct{}

// WithWarnings has warn called with what an Admitter says, in a write under the returned context, to whoever
// writes. It may be called from several goroutines and more than once with the same text.
func WithWarnings(ctx context.Context, warn func(text string)) context.Context {
	return context.WithValue(ctx, warningsKey{}, warn)
}

// Warn is the Admitter's side of WithWarnings: it tells whoever writes, where they listen.
func Warn(ctx context.Context, text string) {
	if warn, ok := ctx.Value(warningsKey{}).(func(string)); ok {
		warn(text)
	}
}
