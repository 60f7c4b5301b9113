package powerloss

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A sync that fails is an error and a degraded state, in bbolt's own transactions too: never a panic, a hang or a lost
// write. The child looks at the first two; then the power fails at any moment since. As on Linux, what was not synced
// then is not synced by the next sync either, although it is read back until the power fails.
func TestASyncThatFailsLosesNothing(t *testing.T) {
	child := buildChild(t, "")
	cuts := 60
	if long() {
		cuts = 400
	}
	for _, file := range []string{"data/state.db", "data/log/*.seg"} {
		// Both syncs of bbolt's: that of the pages, and that of the page that makes them count. The first four are the
		// folder's beginning.
		for _, nth := range []int{4, 5, 6, 7} {
			t.Run(strings.ReplaceAll(fmt.Sprintf("%s %d", filepath.Base(file), nth), " ", "-"), func(t *testing.T) {
				failed := 0
				rec := recordOn(t, func(path string, before int) bool {
					if failed > 0 || before < nth || !match(file, path) {
						return false
					}
					failed++
					return true
				}, child, "a sync fails", 0)
				from := slices.IndexFunc(rec, func(o op) bool { return o.kind == failSync })
				if from < 0 {
					t.Fatal("no sync has failed")
				}
				c := cutter{rec: rec, open: single, seed: 5, from: from}
				for i, err := range c.cut(t.Context(), t.TempDir(), cuts) {
					if i < 5 {
						t.Error(err)
					}
				}
				t.Logf("%d operations, %d of them after a failed sync, %d cut points", len(rec), len(rec)-from, cuts)
			})
		}
	}
}
