//go:build linux && cgo && !nonvml

package nvml

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Libraries of our own making stand in for NVML, each in a process of its own: symbols that a process has bound
// stay bound. They show what no machine here has: drivers that are old, broken or not loaded.

const libraryEnv = "PINTLE_TEST_NVML"

// TestMain lets a child process open the library that it is given, and say what came of it. A call to a
// symbol that isn't there ends it, and the test that started it fails.
func TestMain(m *testing.M) {
	path := os.Getenv(libraryEnv)
	if path == "" {
		os.Exit(m.Run())
	}
	for range 3 {
		s, err := Library{Path: path}.Open()
		if err != nil {
			fmt.Println("error:", err)
			continue
		}
		system, err := s.System()
		fmt.Println("system:", system.DriverVersion, err)
		gpus, err := s.GPUs()
		if err != nil || len(gpus) != 1 {
			fmt.Println("GPUs:", len(gpus), err)
			os.Exit(1)
		}
		fmt.Printf("GPU: %s %q %q\n", gpus[0].UUID, gpus[0].Problem, gpus[0].Unmonitored)
		r, err := s.Read(gpus[0].UUID)
		fmt.Println("reading:", r.Temperature == nil, err)
		_, ok, err := s.Wait(1)
		fmt.Println("event:", ok, err)
		fmt.Println("MIG:", s.SetMIGMode(gpus[0].UUID, true))
		_, err = s.CreateMIG(gpus[0].UUID, 19, 0)
		fmt.Println("MIG:", err)
		fmt.Println("limit:", s.LimitMemory(gpus[0].UUID, "/sys/fs/cgroup", 1))
		fmt.Println("closed:", s.Close())
	}
	os.Exit(0)
}

// library compiles an NVML that has the required symbols but those, and whose Init returns a value. Functions
// that tell nothing return «not supported».
func library(t *testing.T, init int, without ...string) string {
	t.Helper()
	special := map[string]string{
		"nvmlInit_v2":                    fmt.Sprintf("int nvmlInit_v2(void) { return %d; }", init),
		"nvmlShutdown":                   "int nvmlShutdown(void) { return 0; }",
		"nvmlErrorString":                `const char *nvmlErrorString(int r) { return r == 3 ? "Not Supported" : "other"; }`,
		"nvmlSystemGetDriverVersion":     `int nvmlSystemGetDriverVersion(char *v, unsigned n) { v[0]='4'; v[1]='5'; v[2]='0'; v[3]=0; return 0; }`,
		"nvmlSystemGetCudaDriverVersion": "int nvmlSystemGetCudaDriverVersion(int *v) { *v = 11000; return 0; }",
		"nvmlDeviceGetCount_v2":          "int nvmlDeviceGetCount_v2(unsigned *n) { *n = 1; return 0; }",
		"nvmlDeviceGetHandleByIndex_v2":  "int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **d) { *d = (void*)1; return 0; }",
		"nvmlDeviceGetHandleByUUID":      "int nvmlDeviceGetHandleByUUID(const char *u, void **d) { *d = (void*)1; return 0; }",
		"nvmlDeviceGetUUID":              `int nvmlDeviceGetUUID(void *d, char *u, unsigned n) { u[0]='G'; u[1]=0; return 0; }`,
	}
	var source strings.Builder
	for _, symbol := range required {
		switch {
		case slices.Contains(without, symbol):
		case special[symbol] != "":
			source.WriteString(special[symbol] + "\n")
		default:
			fmt.Fprintf(&source, "int %s(void) { return 3; }\n", symbol)
		}
	}
	dir := t.TempDir()
	c, so := filepath.Join(dir, "nvml.c"), filepath.Join(dir, "libnvidia-ml.so.1")
	if err := os.WriteFile(c, []byte(source.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cc", "-shared", "-fPIC", "-o", so, c).CombinedOutput(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("CI has a C compiler: %v: %s", err, out)
		}
		t.Skipf("no C compiler: %v: %s", err, out)
	}
	return so
}

// try opens a library in a process of its own and returns what it said.
func try(t *testing.T, path string) string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), libraryEnv+"="+path)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("the process died: %v\n%s", err, out)
	}
	return string(out)
}

func TestADriverWithTheOldestSymbolsIsNeverAskedForNewerOnes(t *testing.T) {
	out := try(t, library(t, 0))
	if n := strings.Count(out, "system: 450 <nil>\nGPU: G "); n != 3 {
		t.Errorf("opened and asked %d times of 3:\n%s", n, out)
	}
	if n := strings.Count(out, "closed: <nil>"); n != 3 || strings.Contains(out, "error:") {
		t.Errorf("closed %d times of 3:\n%s", n, out)
	}
}

func TestADriverThatLacksARequiredSymbolIsRefused(t *testing.T) {
	for i, symbol := range required {
		if i%11 != 4 { // a sample: each is a library and a process of its own; the first three are needed to refuse
			continue
		}
		if out := try(t, library(t, 0, symbol)); strings.Count(out, "too old: its NVML lacks "+symbol+";") != 3 {
			t.Errorf("without %s:\n%s", symbol, out)
		}
	}
}

func TestAnInitThatFailsIsAReasonAndNothingIsCalledAfterIt(t *testing.T) {
	for value, want := range map[int]string{9: "modprobe nvidia", 18: "different versions", 4: "/dev/nvidiactl", 15: "fell off the bus", 999: "could not be initialised"} {
		// Nothing but Init and ErrorString is there: any other call would end the process.
		without := slices.DeleteFunc(slices.Clone(required[:]), func(s string) bool { return s == "nvmlInit_v2" || s == "nvmlErrorString" })
		if out := try(t, library(t, value, without...)); strings.Count(out, want) != 3 {
			t.Errorf("Init returns %d:\n%s", value, out)
		}
	}
}
