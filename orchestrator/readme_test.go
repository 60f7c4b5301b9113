package orchestrator_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// The README's program is what people copy first: it is vetted and run as it stands there, but for its folder.
func TestTheReadmesProgramRuns(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(readme), "```go\npackage main\n")
	body, _, ended := strings.Cut(rest, "```\n")
	if !found || !ended {
		t.Fatal("README.md has no program: a block ```go that begins with package main")
	}
	program := "package main\n" + body
	if lines := strings.Count(program, "\n"); lines > 35 {
		t.Errorf("the program has %d lines: it is to be a short one", lines)
	}
	dir := t.TempDir()
	const folder = `"/var/lib/mybox"`
	if strings.Count(program, folder) != 1 {
		t.Fatalf("the program names its folder %s %d times, want once", folder, strings.Count(program, folder))
	}
	program = strings.Replace(program, folder, strconv.Quote(filepath.Join(dir, "data")), 1)
	source, binary := filepath.Join(dir, "main.go"), filepath.Join(dir, "program")
	if err := os.WriteFile(source, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"vet", source}, {"build", "-o", binary, source}} {
		if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", args[0], err, out)
		}
	}
	if out, err := exec.Command("gofmt", "-l", source).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("gofmt would change the program: %s %v", out, err)
	}
	for range 2 { // the second time on the folder that is there
		cmd := exec.Command(binary)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Run(); err != nil || stdout.String() != "4 <nil>\n" || !strings.HasSuffix(stderr.String(), "ended: <nil>\n") {
			t.Errorf("the program: %v, stdout %q, stderr %q", err, stdout.String(), stderr.String())
		}
	}
}
