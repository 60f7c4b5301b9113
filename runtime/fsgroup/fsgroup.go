// Package fsgroup gives a volume's files to the group of a pod's securityContext.fsGroup, as the Kubernetes documentation of
// security contexts and of fsGroupChangePolicy says.
package fsgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	corev1 "k8s.io/api/core/v1"
)

// What the group gets: reading and writing (reading alone in a volume that is read-only), and, in folders, looking inside and
// that new files are the group's, too.
const (
	writable = fs.FileMode(0o660)
	readable = fs.FileMode(0o440)
	folder   = fs.FileMode(0o110) | fs.ModeSetgid
)

// Mode is what an entry's mode becomes.
func Mode(old fs.FileMode, readOnly bool) fs.FileMode {
	m := old.Perm() | old&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky)
	if readOnly {
		m |= readable
	} else {
		m |= writable
	}
	if old.IsDir() {
		m |= folder
	}
	return m
}

// Matches reports whether a volume's root is as it would be made, so that with the policy OnRootMismatch nothing below is
// looked at.
func Matches(root fs.FileInfo, gid int64, readOnly bool) bool {
	owner, known := group(root)
	m := root.Mode()
	return known && owner == gid && Mode(m, readOnly) == m.Perm()|m&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky)
}

// Apply gives everything below dir, and dir itself, to the group. Links are given, and never followed, nor is anything
// outside dir touched while somebody moves folders in it. What vanishes meanwhile is no error. It ends with ctx.
func Apply(ctx context.Context, dir string, gid int64, readOnly bool, policy *corev1.PodFSGroupChangePolicy) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("applyFSGroup failed for %s: %w", dir, err)
	}
	if policy != nil && *policy == corev1.FSGroupChangeOnRootMismatch && Matches(info, gid, readOnly) {
		return nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("applyFSGroup failed for %s: %w", dir, err)
	}
	defer root.Close()
	// The root comes last: until it matches, OnRootMismatch does everything again, after a kill in the middle too.
	err = fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return vanished(err)
		}
		if path == "." {
			return nil
		}
		return vanished(give(root, path, gid, readOnly))
	})
	if err == nil {
		err = give(root, ".", gid, readOnly)
	}
	if err != nil {
		return fmt.Errorf("applyFSGroup failed for %s: %w", dir, err)
	}
	return nil
}

func give(root *os.Root, path string, gid int64, readOnly bool) error {
	if err := root.Lchown(path, -1, int(gid)); err != nil {
		if os.Geteuid() != 0 && errors.Is(err, fs.ErrPermission) {
			return nil // a host program without rights runs its pods with its own
		}
		return err
	}
	info, err := root.Lstat(path)
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		return nil
	}
	return root.Chmod(path, Mode(info.Mode(), readOnly))
}

func vanished(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
