package sdktest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// toolchain is a language's compiler, as this machine has it. The commands are those of the author's page.
type toolchain struct {
	version string
	compile func(ctx context.Context, sdk, source, out string) error
}

// find looks for a language's compiler.
func find(ctx context.Context, in Language, sdk string) (toolchain, error) {
	switch in {
	case Go:
		return toolchain{runtime.Version(), compileGo}, nil
	case C:
		return findClang(ctx)
	case Rust:
		return findRust(ctx)
	case AssemblyScript:
		return findAssemblyScript(ctx, sdk)
	}
	return toolchain{}, fmt.Errorf("there is no SDK for %q", in)
}

func compileGo(ctx context.Context, _, source, out string) error {
	// CGO_ENABLED and GOFLAGS may be set for this machine's own programs.
	env := []string{"GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS="}
	_, err := output(ctx, source, env, "go", "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o", out, ".")
	return err
}

func findClang(ctx context.Context) (toolchain, error) {
	if _, err := exec.LookPath("wasm-ld"); err != nil {
		return toolchain{}, fmt.Errorf("%w: wasm-ld (lld)", ErrNoToolchain)
	}
	clang, err := exec.LookPath("clang")
	if err != nil {
		return toolchain{}, fmt.Errorf("%w: clang", ErrNoToolchain)
	}
	version, err := output(ctx, "", nil, clang, "--version")
	compile := func(ctx context.Context, sdk, source, out string) error {
		_, err := output(ctx, "", nil, clang, "--target=wasm32", "-O2", "-mbulk-memory", "-ffreestanding", "-nostdlib", "-Wall", "-Wextra", "-Werror",
			"-Wl,--no-entry", "-Wl,--strip-all", "-I", sdk, "-o", out, filepath.Join(source, "policy.c"))
		return err
	}
	return toolchain{version, compile}, err
}

// findRust wants a compiler that has the target: Debian's does, one of rustup's only where the target was added.
func findRust(ctx context.Context) (toolchain, error) {
	const target = "--target=wasm32-unknown-unknown"
	for _, rustc := range []string{"rustc", "/usr/bin/rustc"} {
		if _, err := exec.LookPath(rustc); err != nil {
			continue
		}
		libs, err := output(ctx, "", nil, rustc, "--print", "target-libdir", target)
		if err != nil {
			continue
		}
		if found, _ := filepath.Glob(filepath.Join(libs, "libcore-*.rlib")); len(found) == 0 {
			continue
		}
		version, err := output(ctx, "", nil, rustc, "--version")
		compile := func(ctx context.Context, sdk, source, out string) error {
			// The warnings are of compilers newer than the oldest that the SDK is for.
			common := []string{"--edition=2021", target, "-Copt-level=3", "-Cpanic=abort", "-Ccodegen-units=1", "--cap-lints=warn"}
			lib := filepath.Join(filepath.Dir(out), "libpintle.rlib")
			args := append([]string{"--crate-type=rlib", "--crate-name=pintle", "-o", lib, filepath.Join(sdk, "src", "lib.rs")}, common...)
			if _, err := output(ctx, "", nil, rustc, args...); err != nil {
				return err
			}
			args = append([]string{"--crate-type=cdylib", "--crate-name=policy", "--extern=pintle=" + lib, "-Clto", "-Cstrip=symbols", "-Clink-arg=-zstack-size=65536",
				"-o", out, filepath.Join(source, "policy.rs")}, common...)
			_, err := output(ctx, "", nil, rustc, args...)
			return err
		}
		return toolchain{version, compile}, err
	}
	return toolchain{}, fmt.Errorf("%w: rustc with the target wasm32-unknown-unknown (libstd-rust-dev-wasm32)", ErrNoToolchain)
}

func findAssemblyScript(ctx context.Context, sdk string) (toolchain, error) {
	asc := filepath.Join(sdk, "node_modules", "assemblyscript", "bin", "asc.js")
	if _, err := os.Stat(asc); err != nil {
		return toolchain{}, fmt.Errorf("%w: npm ci in %s", ErrNoToolchain, sdk)
	}
	if _, err := exec.LookPath("node"); err != nil {
		return toolchain{}, fmt.Errorf("%w: node", ErrNoToolchain)
	}
	version, err := output(ctx, "", nil, "node", asc, "--version")
	compile := func(ctx context.Context, _, source, out string) error {
		_, err := output(ctx, source, nil, "node", asc, "policy.ts", "-O3", "--runtime", "stub", "--use", "abort=",
			"--exportStart", "_initialize", "-o", out)
		return err
	}
	return toolchain{version, compile}, err
}
