package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/pintle/pintle/policies/sdk/sdktest"
)

// buildGuests compiles the two policies that every SDK has, and a large one, into a folder. It says by language why what
// is missing there couldn't be.
func buildGuests(ctx context.Context, w *workshop) (dir string, missing map[string]error) {
	missing = map[string]error{}
	dir, err := w.folder("guests")
	for _, language := range sdktest.Languages() {
		if err != nil {
			missing[string(language)] = err
			continue
		}
		for _, policy := range []string{"required-labels", "gpu-binpack"} {
			wasm, buildErr := sdktest.Build(ctx, policy, language)
			if buildErr == nil {
				buildErr = os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%s.wasm", policy, language)), wasm, 0o644)
			}
			if buildErr != nil {
				missing[string(language)] = errors.New(firstLines(buildErr.Error(), 2))
			}
		}
	}
	if err == nil {
		err = buildLargeGuest(ctx, filepath.Join(dir, "large-go.wasm"))
	}
	if err != nil {
		missing["large"] = err
	}
	return dir, missing
}

func buildLargeGuest(ctx context.Context, out string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o", out, "./subject/largeguest")
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the large guest: %w: %s", err, firstLines(string(said), 2))
	}
	return nil
}
