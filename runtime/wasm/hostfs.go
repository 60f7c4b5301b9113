package wasm

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	experimentalsys "github.com/tetratelabs/wazero/experimental/sys"
	"github.com/tetratelabs/wazero/experimental/sysfs"
	"github.com/tetratelabs/wazero/sys"

	"github.com/pintle/pintle/runtime"
)

const maxSymlinks = 40

// hostFS is a guest's whole tree: the image's root, read-only, and the mounts over it. It resolves
// symbolic links itself, against the guest's root, because wazero's DirFS would follow them out to
// the host's files. Guests may not make links, so none appears between the look and the use.
type hostFS struct {
	experimentalsys.UnimplementedFS
	points []mountPoint // longest guest path first; the last is the root, ""
}

type mountPoint struct {
	guest    string // relative to /, "" for the root
	host     string
	file     bool // host is one file
	readOnly bool
}

func newHostFS(rootfs string, mounts []runtime.Mount) (*hostFS, error) {
	f := &hostFS{}
	for _, m := range mounts {
		info, err := os.Stat(m.HostPath)
		if err != nil {
			return nil, err
		}
		host, err := filepath.EvalSymlinks(m.HostPath)
		if err != nil {
			return nil, err
		}
		f.points = append(f.points, mountPoint{guest: cleanPath(m.ContainerPath), host: host, file: !info.IsDir(), readOnly: m.ReadOnly})
	}
	// A later mount hides an earlier one at the same place; the longest path that fits wins.
	for i, j := 0, len(f.points)-1; i < j; i, j = i+1, j-1 {
		f.points[i], f.points[j] = f.points[j], f.points[i]
	}
	f.points = append(f.points, mountPoint{host: rootfs, readOnly: true})
	return f, nil
}

func (f *hostFS) find(guest string) (best mountPoint, rest string) {
	found := -1
	for _, p := range f.points {
		if len(p.guest) <= found {
			continue
		}
		if p.guest == "" || guest == p.guest {
			best, rest, found = p, strings.TrimPrefix(strings.TrimPrefix(guest, p.guest), "/"), len(p.guest)
		} else if r, ok := strings.CutPrefix(guest, p.guest+"/"); ok && !p.file {
			best, rest, found = p, r, len(p.guest)
		}
	}
	return best, rest
}

// resolve follows the links of a guest path and returns where it lies; the last element only if follow.
func (f *hostFS) resolve(name string, follow bool) (mountPoint, string, experimentalsys.Errno) {
	todo, done := strings.Split(cleanPath(name), "/"), ""
	for links := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			if done = path.Dir(done); done == "." {
				done = ""
			}
			continue
		}
		next := path.Join(done, part)
		p, rest := f.find(next)
		if rest != "" && (follow || len(todo) > 0) {
			if target, err := os.Readlink(filepath.Join(p.host, filepath.FromSlash(rest))); err == nil {
				if links++; links > maxSymlinks {
					return mountPoint{}, "", experimentalsys.ELOOP
				}
				if path.IsAbs(target) {
					done = ""
				}
				todo = append(strings.Split(filepath.ToSlash(target), "/"), todo...)
				continue
			}
		}
		done = next
	}
	p, rest := f.find(done)
	return p, rest, 0
}

// at returns the host's file system and the name in it for a guest path.
func (f *hostFS) at(name string, follow, write bool) (experimentalsys.FS, string, experimentalsys.Errno) {
	p, rest, errno := f.resolve(name, follow)
	if errno != 0 {
		return nil, "", errno
	}
	if write && (p.readOnly || rest == "" && !p.file) {
		return nil, "", experimentalsys.EROFS
	}
	dir := p.host
	if p.file {
		dir, rest = filepath.Dir(p.host), filepath.Base(p.host)
	}
	base := sysfs.DirFS(dir)
	if p.readOnly {
		base = &sysfs.ReadFS{FS: base}
	}
	if rest == "" {
		rest = "."
	}
	return base, rest, 0
}

func (f *hostFS) OpenFile(name string, flag experimentalsys.Oflag, perm fs.FileMode) (experimentalsys.File, experimentalsys.Errno) {
	h, rest, errno := f.at(name, flag&experimentalsys.O_NOFOLLOW == 0, false)
	if errno != 0 {
		return nil, errno
	}
	return h.OpenFile(rest, flag, perm)
}

func (f *hostFS) Lstat(name string) (sys.Stat_t, experimentalsys.Errno) {
	h, rest, errno := f.at(name, false, false)
	if errno != 0 {
		return sys.Stat_t{}, errno
	}
	return h.Lstat(rest)
}

func (f *hostFS) Stat(name string) (sys.Stat_t, experimentalsys.Errno) {
	h, rest, errno := f.at(name, true, false)
	if errno != 0 {
		return sys.Stat_t{}, errno
	}
	return h.Stat(rest)
}

func (f *hostFS) Readlink(name string) (string, experimentalsys.Errno) {
	h, rest, errno := f.at(name, false, false)
	if errno != 0 {
		return "", errno
	}
	return h.Readlink(rest)
}

func (f *hostFS) write(name string, follow bool, do func(h experimentalsys.FS, rest string) experimentalsys.Errno) experimentalsys.Errno {
	h, rest, errno := f.at(name, follow, true)
	if errno != 0 {
		return errno
	}
	return do(h, rest)
}

func (f *hostFS) Mkdir(name string, perm fs.FileMode) experimentalsys.Errno {
	return f.write(name, false, func(h experimentalsys.FS, rest string) experimentalsys.Errno { return h.Mkdir(rest, perm) })
}

func (f *hostFS) Chmod(name string, perm fs.FileMode) experimentalsys.Errno {
	return f.write(name, true, func(h experimentalsys.FS, rest string) experimentalsys.Errno { return h.Chmod(rest, perm) })
}

func (f *hostFS) Rmdir(name string) experimentalsys.Errno {
	return f.write(name, false, func(h experimentalsys.FS, rest string) experimentalsys.Errno { return h.Rmdir(rest) })
}

func (f *hostFS) Unlink(name string) experimentalsys.Errno {
	return f.write(name, false, func(h experimentalsys.FS, rest string) experimentalsys.Errno { return h.Unlink(rest) })
}

func (f *hostFS) Utimens(name string, atim, mtim int64) experimentalsys.Errno {
	return f.write(name, true, func(h experimentalsys.FS, rest string) experimentalsys.Errno { return h.Utimens(rest, atim, mtim) })
}

func (f *hostFS) Rename(from, to string) experimentalsys.Errno {
	p, a, errno := f.resolve(from, false)
	if errno != 0 {
		return errno
	}
	q, b, errno := f.resolve(to, false)
	if errno != 0 {
		return errno
	}
	if p.readOnly || q.readOnly || a == "" || b == "" {
		return experimentalsys.EROFS
	}
	if p != q {
		return experimentalsys.ENOTSUP // across mounts: the guest copies, as with EXDEV
	}
	return sysfs.DirFS(p.host).Rename(a, b)
}

// Link and Symlink are refused: see hostFS.
func (f *hostFS) Link(string, string) experimentalsys.Errno    { return experimentalsys.EPERM }
func (f *hostFS) Symlink(string, string) experimentalsys.Errno { return experimentalsys.EPERM }

// noFS takes descriptor 3's place in wazero's table; our functions answer for that descriptor.
type noFS struct {
	experimentalsys.UnimplementedFS
}
