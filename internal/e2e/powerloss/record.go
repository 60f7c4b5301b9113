package powerloss

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// buildChild compiles raftstore's tests, which hold the scripts, with build tags.
func buildChild(t testing.TB, tags string) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "child")
	build := exec.Command("go", "test", "-c", "-tags", tags, "-o", bin, ".")
	build.Dir = "../../../raftstore"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the child: %v\n%s", err, out)
	}
	return bin
}

// record runs a script in a child on a disk of ours. Where kills is not 0, the child is killed each
// time so many marks have been made and started again, three times.
func record(t testing.TB, child, script string, kills int, env ...string) recording {
	t.Helper()
	return recordOn(t, nil, child, script, kills, env...)
}

// recordOn does so on a disk some of whose syncs fail.
func recordOn(t testing.TB, fail func(path string, before int) bool, child, script string, kills int, env ...string) recording {
	t.Helper()
	at := t.TempDir()
	d, unmount, err := mountDisk(at)
	if err != nil && os.Geteuid() != 0 && os.Getenv("CI") == "" {
		t.Skip(err) // nobody is fooled: CI runs this as root
	}
	if err != nil {
		t.Fatal(err)
	}
	d.fail = fail
	defer func() {
		if err := unmount(); err != nil {
			t.Errorf("unmount: %v", err)
		}
	}()
	for life := 0; ; life++ {
		cmd := exec.Command(child, "-test.run=^TestPowerLossChild$", "-test.timeout=2m")
		cmd.Env = append(os.Environ(), append(env, "RAFTSTORE_POWERLOSS_DIR="+at, "RAFTSTORE_POWERLOSS_SCRIPT="+script)...)
		out, err := runChild(cmd, d, (life+1)*kills)
		if kills == 0 && err != nil {
			t.Fatalf("script %q: %v\n%s", script, err, out)
		}
		if kills == 0 || life == 3 {
			return d.ops
		}
	}
}

// runChild waits for the child, or kills it once the disk has seen so many marks.
func runChild(cmd *exec.Cmd, d *disk, marks int) (string, error) {
	log, err := os.CreateTemp("", "child")
	if err != nil {
		return "", err
	}
	defer func() { _ = log.Close(); _ = os.Remove(log.Name()) }()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return "", err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	timeout := time.After(3 * time.Minute)
	for {
		select {
		case err := <-done:
			out, _ := os.ReadFile(log.Name())
			if err != nil {
				err = fmt.Errorf("child: %w", err)
			}
			return string(out), err
		case <-d.marked:
			d.mu.Lock()
			enough := marks > 0 && d.marks >= marks
			d.mu.Unlock()
			if enough {
				_ = cmd.Process.Kill()
			}
		case <-timeout:
			_ = cmd.Process.Kill()
			<-done
			return "", errors.New("the child took more than three minutes")
		}
	}
}
