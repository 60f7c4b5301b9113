package raftstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// pageWalk checks the pages of a bbolt file by reading it as a file, before bbolt maps it: no page is
// reached twice or lies outside, every element lies within its page, keys ascend, and nothing is both
// free and in use. bbolt would panic on some of that, go round in circles on some, and on some write
// over what is in use.
type pageWalk struct {
	r    io.ReaderAt
	size int64
	// deep also reads the leaves that hold the values, most of the file.
	deep bool
	bad  func(format string, args ...any)

	pageSize int64
	end      uint64 // the first page that is not in use yet
	used     map[uint64]bool
}

const (
	pageBranch   = 1
	pageLeaf     = 2
	pageFreelist = 16
	pageHeader   = 16 // id u64, flags u16, count u16, overflow u32
	pageElement  = 16 // branch: pos u32, ksize u32, id u64; leaf: flags u32, pos u32, ksize u32, vsize u32
	boltMagic    = 0xED0CDAED
)

var native = binary.NativeEndian

// checkPages returns what is wrong with a state file. Most of the values are only read if deep is
// set, or if the file is small.
func checkPages(path string, deep bool) (findings []error) {
	bad := func(format string, args ...any) {
		if len(findings) < 20 {
			findings = append(findings, fmt.Errorf("%w: "+format, append([]any{ErrCorrupt}, args...)...))
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return []error{err}
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return []error{err}
	}
	if !info.Mode().IsRegular() {
		return []error{fmt.Errorf("%w: %s is no file", ErrCorrupt, path)}
	}
	w := &pageWalk{r: f, size: info.Size(), deep: deep, bad: bad, used: map[uint64]bool{0: true, 1: true}}
	w.file()
	return findings
}

const shallowAbove = 64 << 20

type boltMeta struct {
	pageSize             int64
	root, freelist, end  uint64
	transaction          uint64
	readable, checksumOK bool
}

func (w *pageWalk) meta(at int64) boltMeta {
	b := make([]byte, pageHeader+64)
	if _, err := w.r.ReadAt(b, at); err != nil {
		return boltMeta{}
	}
	m := b[pageHeader:]
	sum := fnv.New64a()
	_, _ = sum.Write(m[:56])
	if native.Uint32(m) != boltMagic || native.Uint32(m[4:]) != 2 || native.Uint64(m[56:]) != sum.Sum64() {
		return boltMeta{}
	}
	return boltMeta{pageSize: int64(native.Uint32(m[8:])), root: native.Uint64(m[16:]), freelist: native.Uint64(m[32:]),
		end: native.Uint64(m[40:]), transaction: native.Uint64(m[48:]), readable: true}
}

func (w *pageWalk) file() {
	m := w.meta(0)
	for size := int64(1 << 10); !m.readable && size <= 1<<16; size <<= 1 {
		if other := w.meta(size); other.readable && other.pageSize == size {
			m = other
		}
	}
	if !m.readable || m.pageSize < 512 {
		w.bad("neither of the two meta pages is sound")
		return
	}
	if other := w.meta(m.pageSize); other.readable && other.transaction > m.transaction {
		m = other
	}
	w.pageSize, w.end = m.pageSize, m.end
	if int64(m.end) < 0 || int64(m.end) > w.size/w.pageSize {
		w.bad("the file is cut short: it has %d bytes, and %d pages of %d are in use", w.size, m.end, w.pageSize)
		return
	}
	w.deep = w.deep || int64(m.end)*w.pageSize < shallowAbove
	w.tree(m.root, "", true)
	w.freelist(m.freelist)
	if w.deep {
		for id := uint64(2); id < w.end; id++ {
			if !w.used[id] {
				w.bad("page %d is neither free nor in use", id)
				return
			}
		}
	}
}

// read returns a page with what overflows it, having marked it as used.
func (w *pageWalk) read(id uint64, flags uint16) []byte {
	head := make([]byte, pageHeader)
	if id < 2 || id >= w.end {
		w.bad("page %d is referred to, and the file has %d", id, w.end)
		return nil
	}
	if _, err := w.r.ReadAt(head, int64(id)*w.pageSize); err != nil {
		w.bad("page %d: %v", id, err)
		return nil
	}
	overflow := uint64(native.Uint32(head[12:]))
	got := native.Uint16(head[8:])
	if native.Uint64(head) != id || got&flags == 0 || got&(got-1) != 0 || id+overflow >= w.end {
		w.bad("page %d is not what it should be", id)
		return nil
	}
	for p := id; p <= id+overflow; p++ {
		if w.used[p] {
			w.bad("page %d is used twice", p)
			return nil
		}
		w.used[p] = true
	}
	b := make([]byte, int64(overflow+1)*w.pageSize)
	if _, err := w.r.ReadAt(b, int64(id)*w.pageSize); err != nil && !errors.Is(err, io.EOF) {
		w.bad("page %d: %v", id, err)
		return nil
	}
	return b
}

// tree walks a bucket from its root.
func (w *pageWalk) tree(root uint64, bucket string, top bool) {
	// All leaves are equally deep. Those of the values are only read if they are to be.
	skip := -1
	if bucket == string(bucketVal) && !w.deep {
		skip = w.depth(root)
	}
	type step struct {
		id    uint64
		depth int
		low   []byte // no key on the page is less
	}
	todo := []step{{id: root}}
	for len(todo) > 0 {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if at.depth == skip {
			if at.id < 2 || at.id >= w.end || w.used[at.id] {
				w.bad("page %d is used twice, or the file ends before it", at.id)
				return
			}
			w.used[at.id] = true
			continue
		}
		b := w.read(at.id, pageBranch|pageLeaf)
		if b == nil {
			return
		}
		leaf := native.Uint16(b[8:]) == pageLeaf
		n := int(native.Uint16(b[10:]))
		last := at.low
		for i := range n {
			key, value, child, flags, ok := element(b, i, leaf)
			if !ok || len(key) == 0 {
				w.bad("element %d of page %d lies outside of it", i, at.id)
				return
			}
			if c := string(key); i > 0 && c <= string(last) || c < string(last) {
				w.bad("the keys of page %d do not ascend", at.id)
				return
			}
			last = key
			switch {
			case !leaf:
				todo = append(todo, step{child, at.depth + 1, key})
			case flags&1 != 0 && !top:
				w.bad("page %d has a bucket where values belong", at.id)
				return
			case flags&1 != 0:
				w.bucket(at.id, key, value)
			}
		}
		if !leaf && n == 0 {
			w.bad("page %d branches to nothing", at.id)
			return
		}
	}
}

func element(b []byte, i int, leaf bool) (key, value []byte, child uint64, flags uint32, ok bool) {
	at := pageHeader + i*pageElement
	if at+pageElement > len(b) {
		return nil, nil, 0, 0, false
	}
	e := b[at : at+pageElement]
	var pos, ksize, vsize uint64
	if leaf {
		flags = native.Uint32(e)
		pos, ksize, vsize = uint64(native.Uint32(e[4:])), uint64(native.Uint32(e[8:])), uint64(native.Uint32(e[12:]))
	} else {
		pos, ksize, child = uint64(native.Uint32(e)), uint64(native.Uint32(e[4:])), native.Uint64(e[8:])
	}
	start := uint64(at) + pos
	if start+ksize+vsize > uint64(len(b)) || flags > 1 {
		return nil, nil, 0, 0, false
	}
	return b[start : start+ksize], b[start+ksize : start+ksize+vsize], child, flags, true
}

// bucket follows the element of a bucket: to its root, or within it if it is small.
func (w *pageWalk) bucket(page uint64, name, value []byte) {
	if len(value) < 16 {
		w.bad("bucket %q on page %d is cut short", name, page)
		return
	}
	if root := native.Uint64(value); root != 0 {
		w.tree(root, string(name), false)
		return
	}
	inline := value[16:]
	if len(inline) < pageHeader || native.Uint16(inline[8:]) != pageLeaf {
		w.bad("bucket %q on page %d is damaged", name, page)
		return
	}
	last := ""
	for i := range int(native.Uint16(inline[10:])) {
		key, _, _, flags, ok := element(inline, i, true)
		if !ok || flags != 0 || string(key) <= last {
			w.bad("bucket %q on page %d is damaged at element %d", name, page, i)
			return
		}
		last = string(key)
	}
}

// depth is how far the first leaf is from the root.
func (w *pageWalk) depth(id uint64) int {
	head := make([]byte, pageHeader+pageElement)
	for depth := 0; depth < 64 && id >= 2 && id < w.end; depth++ {
		if _, err := w.r.ReadAt(head, int64(id)*w.pageSize); err != nil || native.Uint16(head[8:]) != pageBranch {
			return depth
		}
		id = native.Uint64(head[pageHeader+8:])
	}
	return -1 // a circle: the walk will find it
}

func (w *pageWalk) freelist(id uint64) {
	b := w.read(id, pageFreelist)
	if b == nil {
		return
	}
	n, at := uint64(native.Uint16(b[10:])), uint64(pageHeader)
	if n == 0xffff {
		n, at = native.Uint64(b[at:]), at+8
	}
	if n > (uint64(len(b))-at)/8 {
		w.bad("the list of free pages is longer than its page")
		return
	}
	last := uint64(1)
	for i := range n {
		free := native.Uint64(b[at+8*i:])
		if free <= last || free >= w.end || w.used[free] {
			w.bad("page %d is free and in use, or listed out of order", free)
			return
		}
		w.used[free] = true
		last = free
	}
}
