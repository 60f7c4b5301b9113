package powerloss

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// marksName is the file whose writes are marks, not data.
const marksName = ".marks"

// disk is a file system in memory that records what is done to it. One lock, held for each operation
// whole, puts everything in one order.
type disk struct {
	mu     sync.Mutex
	ops    recording
	inodes int
	marks  int
	marked chan struct{} // told at each mark
	// fail, when set, says which syncs of files end with EIO: by path, and how many of that file there were before.
	fail  func(path string, before int) bool
	syncs map[string]int
}

// mountDisk mounts an empty one. It needs root and /dev/fuse, and no fusermount.
func mountDisk(at string) (_ *disk, unmount func() error, _ error) {
	d := &disk{marked: make(chan struct{}, 1), syncs: map[string]int{}}
	hour := time.Hour // nobody changes it but through the kernel
	server, err := fs.Mount(at, &node{d: d}, &fs.Options{EntryTimeout: &hour, AttrTimeout: &hour,
		MountOptions: fuse.MountOptions{DirectMountStrict: true, FsName: "powerloss", Name: "powerloss", DisableXAttrs: true, MaxWrite: 1 << 20}})
	if err != nil {
		return nil, nil, fmt.Errorf("mount (as root, with /dev/fuse): %w", err)
	}
	return d, server.Unmount, nil
}

// node is a file or a folder.
type node struct {
	fs.Inode
	d     *disk
	inode int
	data  []byte // guarded by d.mu; of the marks, an unfinished line
}

var _ = interface {
	fs.NodeCreater
	fs.NodeMkdirer
	fs.NodeUnlinker
	fs.NodeRmdirer
	fs.NodeRenamer
	fs.NodeOpener
	fs.NodeReader
	fs.NodeWriter
	fs.NodeFsyncer
	fs.NodeFlusher
	fs.NodeGetattrer
	fs.NodeSetattrer
}((*node)(nil))

func (n *node) isMarks() bool { return n.inode < 0 }

// record adds an op. The lock is held.
func (d *disk) record(o op) { d.ops = append(d.ops, o) }

func (n *node) child(ctx context.Context, name string, mode uint32) *fs.Inode {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	c := &node{d: n.d, inode: -1}
	if name != marksName {
		n.d.inodes++
		c.inode = n.d.inodes
		n.d.record(op{kind: enter, dir: n.inode, name: name, inode: c.inode, isDir: mode&syscall.S_IFDIR != 0})
	}
	return n.NewPersistentInode(ctx, c, fs.StableAttr{Mode: mode})
}

func (n *node) Create(ctx context.Context, name string, _ uint32, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	c := n.child(ctx, name, syscall.S_IFREG)
	out.Mode = mode
	return c, nil, 0, 0
}

func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	c := n.child(ctx, name, syscall.S_IFDIR)
	out.Mode = mode
	return c, 0
}

func (n *node) Unlink(_ context.Context, name string) syscall.Errno {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	n.d.record(op{kind: leave, dir: n.inode, name: name})
	return 0
}

func (n *node) Rmdir(ctx context.Context, name string) syscall.Errno {
	if c := n.GetChild(name); c != nil && len(c.Children()) > 0 {
		return syscall.ENOTEMPTY
	}
	return n.Unlink(ctx, name)
}

func (n *node) Rename(_ context.Context, name string, newParent fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	if flags != 0 {
		return syscall.ENOTSUP
	}
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	n.d.record(op{kind: move, dir: n.inode, name: name, newDir: newParent.(*node).inode, newName: newName})
	return 0
}

func (n *node) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	if flags&syscall.O_TRUNC != 0 {
		n.resize(0)
	}
	return nil, fuse.FOPEN_KEEP_CACHE, 0
}

func (n *node) resize(size int64) {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	if int64(len(n.data)) == size {
		return
	}
	n.grow(size)
	clear(n.data[size:])
	n.data = n.data[:size]
	n.d.record(op{kind: setSize, inode: n.inode, off: size})
}

// Allocate is what makes room at the end of a log.
func (n *node) Allocate(_ context.Context, _ fs.FileHandle, off, size uint64, mode uint32) syscall.Errno {
	if mode != 0 {
		return syscall.EOPNOTSUPP
	}
	n.d.mu.Lock()
	longer := int64(off+size) > int64(len(n.data))
	n.d.mu.Unlock()
	if longer {
		n.resize(int64(off + size))
	}
	return 0
}

// grow makes data at least so long. The lock is held.
func (n *node) grow(size int64) {
	if more := size - int64(len(n.data)); more > 0 {
		n.data = append(n.data, make([]byte, more)...)
	}
}

func (n *node) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	off = min(off, int64(len(n.data)))
	return fuse.ReadResultData(dest[:copy(dest, n.data[off:])]), 0
}

func (n *node) Write(_ context.Context, _ fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	if n.isMarks() {
		n.data = append(n.data, data...) // the kernel splits writes at pages
		for line, rest, ok := bytes.Cut(n.data, []byte("\n")); ok; line, rest, ok = bytes.Cut(n.data, []byte("\n")) {
			n.d.record(op{kind: mark, text: string(line)})
			n.d.marks++
			n.data = rest
		}
		select {
		case n.d.marked <- struct{}{}:
		default:
		}
		return uint32(len(data)), 0
	}
	n.grow(off + int64(len(data)))
	copy(n.data[off:], data)
	n.d.record(op{kind: write, inode: n.inode, off: off, data: append([]byte(nil), data...)})
	return uint32(len(data)), 0
}

// Fsync is for files and folders.
func (n *node) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	path := n.Path(nil)
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	switch {
	case n.IsDir():
		n.d.record(op{kind: syncDir, dir: n.inode})
	case n.isMarks():
	case n.d.fail != nil && n.d.fail(path, n.d.syncs[path]):
		n.d.syncs[path]++
		n.d.record(op{kind: failSync, inode: n.inode})
		return syscall.EIO
	default:
		n.d.syncs[path]++
		n.d.record(op{kind: syncFile, inode: n.inode})
	}
	return 0
}

// Flush is what close does: it syncs nothing.
func (n *node) Flush(context.Context, fs.FileHandle) syscall.Errno { return 0 }

func (n *node) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	out.Mode, out.Size = 0o600, uint64(len(n.data))
	if n.isMarks() {
		out.Size = 0
	}
	if n.IsDir() {
		out.Mode = 0o700
	}
	return 0
}

func (n *node) Setattr(ctx context.Context, fh fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if size, ok := in.GetSize(); ok {
		n.resize(int64(size))
	}
	return n.Getattr(ctx, fh, out)
}
