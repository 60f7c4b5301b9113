//go:build unix

package fsgroup

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestModesAreTheGroups(t *testing.T) {
	for _, tc := range []struct {
		old      fs.FileMode
		readOnly bool
		want     fs.FileMode
	}{
		{0o600, false, 0o660}, {0o644, false, 0o664}, {0o400, true, 0o440}, {0o755, true, 0o755},
		{fs.ModeDir | 0o700, false, 0o770 | fs.ModeSetgid}, {fs.ModeDir | fs.ModeSticky | 0o777, false, 0o777 | fs.ModeSetgid | fs.ModeSticky},
		{fs.ModeDir | 0o700, true, 0o750 | fs.ModeSetgid},
	} {
		if got := Mode(tc.old, tc.readOnly); got != tc.want {
			t.Errorf("%v read-only %v: %v, want %v", tc.old, tc.readOnly, got, tc.want)
		}
	}
}

func TestAVolumeBecomesTheGroupsAndNothingOutsideDoes(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("CI=true but not root")
		}
		t.Skip("only root gives files away")
	}
	dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "secret")
	write := func(p string) {
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(outside)
	write(filepath.Join(dir, "a", "b"))
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Dir(outside), filepath.Join(dir, "folder")); err != nil {
		t.Fatal(err)
	}
	const gid = 4242
	is := func(p string, want bool) {
		t.Helper()
		i, err := os.Lstat(p)
		if err != nil {
			t.Fatal(err)
		}
		if g, _ := group(i); (g == gid) != want {
			t.Fatalf("%s: group %d, mode %v", p, g, i.Mode())
		}
	}
	always, mismatch := corev1.FSGroupChangeAlways, corev1.FSGroupChangeOnRootMismatch
	if err := Apply(t.Context(), dir, gid, false, &mismatch); err != nil {
		t.Fatal(err)
	}
	is(dir, true)
	is(filepath.Join(dir, "a", "b"), true)
	is(filepath.Join(dir, "link"), true)
	is(outside, false)
	is(filepath.Dir(outside), false)
	if i, _ := os.Stat(outside); i.Mode() != 0o600 {
		t.Fatalf("mode outside: %v", i.Mode())
	}
	// Now the root matches: what is new is left alone, unless the policy is Always.
	write(filepath.Join(dir, "a", "new"))
	if err := os.Chown(filepath.Join(dir, "a", "new"), 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := Apply(t.Context(), dir, gid, false, &mismatch); err != nil {
		t.Fatal(err)
	}
	is(filepath.Join(dir, "a", "new"), false)
	if err := Apply(t.Context(), dir, gid, false, &always); err != nil {
		t.Fatal(err)
	}
	is(filepath.Join(dir, "a", "new"), true)
}
