// Package wasmtest builds the guests that the adapters' tests run, from source.
package wasmtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Reactor builds a Go program whose exports are called: GOOS=wasip1, -buildmode=c-shared.
func Reactor(t testing.TB, dir string) []byte { return goBuild(t, dir, "-buildmode=c-shared") }

// Command builds a Go program that runs from main to its end.
func Command(t testing.TB, dir string) []byte { return goBuild(t, dir, "-buildmode=exe") }

func goBuild(t testing.TB, dir, mode string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "guest.wasm")
	cmd := exec.Command("go", "build", mode, "-trimpath", "-ldflags=-s -w", "-o", out, "./"+dir)
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=")
	return run(t, cmd, out)
}

// C builds a freestanding C program with clang and wasm-ld. Without them the test is skipped, and fails in CI.
func C(t testing.TB, file string, flags ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath("clang"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("clang is missing: apt-get install clang lld")
		}
		t.Skip("no clang here: apt-get install clang lld")
	}
	out := filepath.Join(t.TempDir(), "guest.wasm")
	args := append([]string{"--target=wasm32", "-O2", "-nostdlib", "-Wl,--no-entry", "-Wl,--allow-undefined", "-o", out, file}, flags...)
	return run(t, exec.Command("clang", args...), out)
}

func run(t testing.TB, cmd *exec.Cmd, out string) []byte {
	t.Helper()
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, text)
	}
	wasm, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return wasm
}

// Section adds a custom section to a module.
func Section(wasm []byte, name string, content []byte) []byte {
	body := append(leb(nil, len(name)), name...)
	body = append(body, content...)
	return append(leb(append(append([]byte{}, wasm...), 0), len(body)), body...)
}

func leb(b []byte, n int) []byte {
	for n >= 0x80 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}

// AssemblyScript builds an AssemblyScript program with the compiler of policies/sdk/assemblyscript, or one on the
// PATH. Without it the test is skipped, and fails in CI.
func AssemblyScript(t testing.TB, file string) []byte {
	t.Helper()
	asc, err := exec.LookPath("../../sdk/assemblyscript/node_modules/.bin/asc")
	if err != nil {
		asc, err = exec.LookPath("asc")
	}
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("asc is missing: npm ci in policies/sdk/assemblyscript")
		}
		t.Skip("no asc here: npm ci in policies/sdk/assemblyscript")
	}
	out := filepath.Join(t.TempDir(), "guest.wasm")
	return run(t, exec.Command(asc, file, "--optimize", "--runtime", "minimal", "--outFile", out), out)
}
