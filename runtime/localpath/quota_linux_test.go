package localpath

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

const mountinfo = `22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw,discard
30 22 254:16 / /data rw,relatime - xfs /dev/vdb rw,attr2,prjquota
31 22 254:32 / /data/with\040space rw - ext4 /dev/vdc rw,prjquota
`

func TestTheMountThatHoldsAFolderIsTheLongest(t *testing.T) {
	for dir, want := range map[string]string{"/x": "ext4 rw,discard", "/data": "xfs rw,attr2,prjquota", "/database": "ext4 rw,discard",
		"/data/a/b": "xfs rw,attr2,prjquota", "/data/with space/x": "ext4 rw,prjquota"} {
		kind, options, err := mountOf(mountinfo, dir)
		if got := kind + " " + options; err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", dir, got, err, want)
		}
	}
}

func TestAProjectQuotaHoldsAFolderToItsSize(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("CI=true but not root")
		}
		t.Skip("only root mounts")
	}
	image, dir := filepath.Join(t.TempDir(), "image"), t.TempDir()
	f, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(64<<20), f.Close()); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-O", "quota,project", "-E", "quotatype=prjquota", image).CombinedOutput(); err != nil {
		t.Skipf("mkfs.ext4: %v: %s", err, out)
	}
	if out, err := exec.Command("mount", "-o", "loop,prjquota", image, dir).CombinedOutput(); err != nil {
		t.Skipf("this kernel has no project quotas for ext4: %s", out)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	quota, lacking := DetectQuota(dir)
	if quota == nil {
		t.Fatal(lacking)
	}
	folders, err := OpenFolders(filepath.Join(dir, "volumes"), quota)
	if err != nil {
		t.Fatal(err)
	}
	if limited, err := folders.Make(Record{Name: "a", Bytes: 1 << 20}); err != nil || limited != "project" {
		t.Fatal(limited, err)
	}
	full := func() error { return os.WriteFile(filepath.Join(folders.Path("a"), "f"), make([]byte, 4<<20), 0o600) }
	if err := full(); !errors.Is(err, unix.EDQUOT) && !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("4 MiB in a folder for 1: %v", err)
	}
	if err := folders.Resize("a", 8<<20); err != nil {
		t.Fatal(err)
	}
	if err := full(); err != nil {
		t.Fatal(err)
	}
	if used, err := folders.Usage(t.Context(), "a"); err != nil || used < 4<<20 {
		t.Fatalf("used %d, %v", used, err)
	}
}
