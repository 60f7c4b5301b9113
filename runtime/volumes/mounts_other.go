//go:build !linux

package volumes

import (
	"errors"
	"io/fs"
	"os"
)

func mountTmpfs(string, int64) error { return errors.New("only Linux mounts memory") }
func isMountPoint(string) bool       { return false }
func unmountBelow(string) error      { return nil }

func lchown(path string, uid, gid int) error { return os.Lchown(path, uid, gid) }

func chownLike(*os.Root, string, fs.FileInfo) {}

func diskUsage(info fs.FileInfo) int64 { return info.Size() }
