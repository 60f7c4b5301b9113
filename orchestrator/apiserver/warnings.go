package apiserver

import (
	"context"
	"net/http"
	"sync"

	"github.com/pintle/pintle/orchestrator/registry"
)

// warned has what an Admitter warns of become headers of the answer, each text once: a write that is tried again
// warns again. Nothing is written to w before the registry has answered.
func warned(ctx context.Context, w http.ResponseWriter) context.Context {
	var mu sync.Mutex // of the headers: a collection is deleted by several goroutines
	said := map[string]bool{}
	return registry.WithWarnings(ctx, func(text string) {
		mu.Lock()
		defer mu.Unlock()
		if !said[text] {
			said[text] = true
			addWarning(w, text)
		}
	})
}
