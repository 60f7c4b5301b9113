// Package sdktest builds the example policies (policies/examples) from source, in each language in which they are written,
// with the compilers of this machine. Tests, benchmarks and other modules take their guests from here. What was built is
// kept in the user's cache folder by what it was built from.
//
//	wasm, err := sdktest.Build(ctx, "required-labels", sdktest.C)
//
// .ci/guests installs the compilers. Without one Build returns an error that is ErrNoToolchain: Need makes it a skip on a
// developer's machine, and a failure where CI is set.
package sdktest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Language is what a policy is written in: the name of its folder.
type Language string

const (
	Go             Language = "go"
	C              Language = "c"
	AssemblyScript Language = "assemblyscript"
	Rust           Language = "rust"
)

// Languages are all of them.
func Languages() []Language { return []Language{Go, C, AssemblyScript, Rust} }

// ErrNoToolchain is what Build's error wraps where a compiler is missing.
var ErrNoToolchain = errors.New("a compiler is missing: run .ci/guests")

// Policies are the example policies by name, with the languages that each is written in.
func Policies() map[string][]Language {
	return map[string][]Language{
		"required-labels":         {Go, C, AssemblyScript, Rust},
		"gpu-binpack":             {Go, C, AssemblyScript, Rust},
		"cost-carbon":             {Go, C},
		"gang":                    {Go, Rust},
		"gpu-quota":               {Go, Rust},
		"pod-security-restricted": {Go, Rust},
	}
}

// Need builds a policy for a test.
func Need(t testing.TB, policy string, in Language) []byte {
	t.Helper()
	wasm, err := Build(t.Context(), policy, in)
	if errors.Is(err, ErrNoToolchain) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return wasm
}

// Build compiles a policy. It may be called by several goroutines and processes at once.
func Build(ctx context.Context, policy string, in Language) ([]byte, error) {
	wasm, err := build(ctx, policy, in)
	if err != nil {
		return nil, fmt.Errorf("build %s in %s: %w", policy, in, err)
	}
	return wasm, nil
}

func build(ctx context.Context, policy string, in Language) ([]byte, error) {
	root, err := output(ctx, "", nil, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/pintle/pintle")
	if err != nil {
		return nil, err
	}
	sdk, source := filepath.Join(root, "policies", "sdk", string(in)), filepath.Join(root, "policies", "examples", policy, string(in))
	tools, err := find(ctx, in, sdk)
	if err != nil {
		return nil, err
	}
	sum, err := digest(tools.version, sdk, source)
	if err != nil {
		return nil, err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	kept := filepath.Join(cache, "pintle-sdktest", sum+".wasm")
	if wasm, err := os.ReadFile(kept); err == nil {
		return wasm, nil
	}
	dir, err := os.MkdirTemp("", "pintle-guest-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "policy.wasm")
	if err := tools.compile(ctx, sdk, source, out); err != nil {
		return nil, err
	}
	wasm, err := os.ReadFile(out)
	if err != nil {
		return nil, err
	}
	return wasm, keep(kept, wasm)
}

// keep puts a file in place at once: others may be reading it.
func keep(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "new-")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	return err
}

// digest is of a compiler and of all that it is given.
func digest(version string, dirs ...string) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, version)
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				if d != nil && d.Name() == "node_modules" {
					return fs.SkipDir
				}
				return err
			}
			data, err := os.ReadFile(path)
			fmt.Fprintf(h, "%s %d\n%s", strings.TrimPrefix(path, dir), len(data), data)
			return err
		})
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:12]), nil
}

// output runs a command in a folder and returns what it prints.
func output(ctx context.Context, dir string, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s%s", filepath.Base(name), err, errs.String(), out)
	}
	return strings.TrimSpace(string(out)), nil
}
