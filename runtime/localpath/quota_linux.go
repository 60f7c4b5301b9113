package localpath

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// From linux/fs.h and linux/quota.h.
const (
	ioctlGetXattr  = 0x801c581f // FS_IOC_FSGETXATTR
	ioctlSetXattr  = 0x401c5820 // FS_IOC_FSSETXATTR
	flagInherit    = 0x200      // FS_XFLAG_PROJINHERIT
	cmdGetQuota    = 0x800007   // Q_GETQUOTA
	cmdSetQuota    = 0x800008   // Q_SETQUOTA
	projectQuota   = 2          // PRJQUOTA
	validBlocks    = 1          // QIF_BLIMITS
	quotaBlockSize = 1024       // QIF_DQBLKSIZE
)

type fsxattr struct {
	XFlags, ExtSize, NExtents, ProjectID, CowExtSize uint32
	_                                                [8]byte
}

type dqblk struct {
	BlockHard, BlockSoft, Space, InodeHard, InodeSoft, Inodes, BlockTime, InodeTime uint64
	Valid                                                                           uint32
	_                                                                               uint32
}

type projects struct{ dir string }

// DetectQuota returns the quota of the filesystem that holds dir, or nil and why there is none.
func DetectQuota(dir string) (Quota, string) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err.Error()
	}
	kind, options, err := mountOf(string(b), dir)
	if err != nil {
		return nil, err.Error()
	}
	if kind != "ext4" && kind != "xfs" {
		return nil, fmt.Sprintf("a filesystem of the kind %s has no project quotas", kind)
	}
	enforced := false
	for o := range strings.SplitSeq(options, ",") {
		enforced = enforced || o == "prjquota" || o == "pquota"
	}
	if !enforced {
		return nil, "the filesystem isn't mounted with the option prjquota"
	}
	q := &projects{dir}
	if _, err := q.Used(firstProject); err != nil {
		return nil, fmt.Sprintf("quotas can't be used: %v", err)
	}
	return q, ""
}

// mountOf finds the mount that holds dir: its kind, and the options of its filesystem.
func mountOf(mountinfo, dir string) (kind, options string, err error) {
	longest := -1
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	for line := range strings.Lines(mountinfo) {
		left, right, ok := strings.Cut(line, " - ")
		f, r := strings.Fields(left), strings.Fields(right)
		if !ok || len(f) < 5 || len(r) < 3 {
			continue
		}
		point := unescape.Replace(f[4])
		if point != dir && point != "/" && !strings.HasPrefix(dir, point+"/") || len(point) < longest {
			continue
		}
		longest, kind, options = len(point), r[0], r[2]
	}
	if longest < 0 {
		return "", "", fmt.Errorf("no mount holds %s", dir)
	}
	return kind, options, nil
}

func (p *projects) Limit(dir string, project uint32, bytes int64) error {
	if dir != "" {
		if err := setProject(dir, project); err != nil {
			return err
		}
	}
	blocks := uint64((bytes + quotaBlockSize - 1) / quotaBlockSize)
	return p.quotactl(cmdSetQuota, project, &dqblk{BlockHard: blocks, BlockSoft: blocks, Valid: validBlocks})
}

func (p *projects) Used(project uint32) (int64, error) {
	var q dqblk
	err := p.quotactl(cmdGetQuota, project, &q)
	if errors.Is(err, unix.ENOENT) {
		return 0, nil
	}
	return int64(q.Space), err
}

func (p *projects) quotactl(cmd uint32, project uint32, q *dqblk) error {
	d, err := os.Open(p.dir)
	if err != nil {
		return err
	}
	defer d.Close()
	_, _, errno := unix.Syscall6(unix.SYS_QUOTACTL_FD, d.Fd(), uintptr(cmd<<8|projectQuota), uintptr(project), uintptr(unsafe.Pointer(q)), 0, 0)
	if errno != 0 {
		return fmt.Errorf("quotactl: %w", errno)
	}
	return nil
}

func setProject(dir string, project uint32) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	var x fsxattr
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, d.Fd(), ioctlGetXattr, uintptr(unsafe.Pointer(&x))); errno != 0 {
		return fmt.Errorf("read project of %s: %w", dir, errno)
	}
	if x.ProjectID == project && x.XFlags&flagInherit != 0 {
		return nil
	}
	x.ProjectID = project
	x.XFlags |= flagInherit
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, d.Fd(), ioctlSetXattr, uintptr(unsafe.Pointer(&x))); errno != 0 {
		return fmt.Errorf("set project of %s: %w", dir, errno)
	}
	return nil
}

func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}
