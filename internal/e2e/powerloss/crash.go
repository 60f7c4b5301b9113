package powerloss

import (
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
)

const (
	sector = 512
	page   = 4096 // of what is on the disk for certain
)

// platter is what a disk holds for certain after some ops, and what it may hold.
type platter struct {
	inodes []*inode
	at     int // ops played
	// deaf, when set, says which syncs this disk ignores, by the path of what is synced.
	deaf func(kind kind, path string) bool
}

type inode struct {
	isDir bool
	path  string // its latest
	// A file: what is certain, and what was done to it since.
	pages   map[int64][]byte
	size    int64
	pending []pendingOp
	// A folder: the same.
	entries map[string]int
}

type pendingOp struct {
	op
	at int // its place in the recording
	// doubtful: a sync of it has failed. Linux takes the pages for clean then, and no later sync writes them.
	// certain: a later sync succeeded, and this came after what is doubtful.
	doubtful, certain bool
}

func newPlatter(deaf func(kind, string) bool) *platter {
	return &platter{inodes: []*inode{{isDir: true, path: ".", entries: map[string]int{}}}, deaf: deaf}
}

// play does one more op.
func (p *platter) play(o op) {
	todo := pendingOp{op: o, at: p.at}
	p.at++
	switch o.kind {
	case write, setSize:
		f := p.inodes[o.inode]
		f.pending = append(f.pending, todo)
	case enter:
		p.inodes = append(p.inodes, &inode{isDir: o.isDir, path: filepath.Join(p.inodes[o.dir].path, o.name),
			pages: map[int64][]byte{}, entries: map[string]int{}})
		fallthrough
	case leave:
		p.inodes[o.dir].pending = append(p.inodes[o.dir].pending, todo)
	case move:
		if o.dir != o.newDir {
			panic("no store moves files between folders")
		}
		d := p.inodes[o.dir]
		todo.inode = p.now(d)[o.name]
		p.inodes[todo.inode].path = filepath.Join(d.path, o.newName)
		d.pending = append(d.pending, todo)
	case syncFile:
		f := p.inodes[o.inode]
		if p.deaf == nil || !p.deaf(syncFile, f.path) {
			f.synced()
		}
	case failSync:
		f := p.inodes[o.inode]
		for i := range f.pending {
			f.pending[i].doubtful = !f.pending[i].certain
		}
	case syncDir:
		d := p.inodes[o.dir]
		if p.deaf == nil || !p.deaf(syncDir, d.path) {
			d.entries, d.pending = p.now(d), nil
		}
	}
}

// fate decides what a disk keeps of what was not synced.
type fate interface {
	name(o pendingOp) bool             // a change to a folder
	data(o pendingOp, sector int) bool // a sector of a write; for setSize the zeros that it makes
	size(sizes []sized) int64          // the size of a file, of those that it had since the sync
}

// sized is a size that a file had from a place in the recording on.
type sized struct {
	size int64
	at   int
}

func (p *platter) now(d *inode) map[string]int { return d.names(everything{}) }

func (d *inode) names(f fate) map[string]int {
	m := maps.Clone(d.entries)
	for _, o := range d.pending {
		if !f.name(o) {
			continue
		}
		switch o.kind {
		case enter:
			m[o.name] = o.inode
		case leave:
			delete(m, o.name)
		case move:
			delete(m, o.name)
			m[o.newName] = o.inode
		}
	}
	return m
}

// synced makes everything certain but what is doubtful.
func (f *inode) synced() {
	if !slices.ContainsFunc(f.pending, func(o pendingOp) bool { return o.doubtful }) {
		f.pages, f.size = f.content(everything{})
		f.pending = nil
		return
	}
	for i := range f.pending {
		f.pending[i].certain = !f.pending[i].doubtful
	}
}

// content returns the pages and the size. Pages that are shared with f do not change.
func (f *inode) content(fate fate) (map[int64][]byte, int64) {
	if len(f.pending) == 0 {
		return f.pages, f.size
	}
	pages, own := maps.Clone(f.pages), map[int64]bool{}
	put := func(at int64, data []byte) {
		for len(data) > 0 {
			i, off := at/page, at%page
			if !own[i] {
				b := make([]byte, page)
				copy(b, pages[i])
				pages[i], own[i] = b, true
			}
			n := copy(pages[i][off:], data)
			at, data = at+int64(n), data[n:]
		}
	}
	sizes := []sized{{f.size, -1}}
	for _, o := range f.pending {
		size := sizes[len(sizes)-1].size
		if o.kind == setSize {
			if sizes = append(sizes, sized{o.off, o.at}); o.certain {
				sizes = []sized{{o.off, -1}}
			}
			if o.off < size && (o.certain || fate.data(o, 0)) {
				for i := range pages {
					switch at := i * page; {
					case at >= o.off:
						delete(pages, i)
						delete(own, i)
					case at+page > o.off:
						put(o.off, make([]byte, at+page-o.off))
					}
				}
			}
			continue
		}
		for at, n := o.off, 0; at < o.off+int64(len(o.data)); n++ {
			end := min((at/sector+1)*sector, o.off+int64(len(o.data)))
			if o.certain || fate.data(o, n) {
				put(at, o.data[at-o.off:end-o.off])
			}
			at = end
		}
		if sizes = append(sizes, sized{max(size, o.off+int64(len(o.data))), o.at}); o.certain {
			sizes = []sized{{max(size, o.off+int64(len(o.data))), -1}}
		}
	}
	return pages, fate.size(sizes)
}

// rebuild makes the folder that the disk holds after a loss of power with this fate.
func (p *platter) rebuild(root string, f fate) error { return p.rebuildDir(0, root, f) }

func (p *platter) rebuildDir(dir int, path string, fate fate) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	names := p.inodes[dir].names(fate)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		c, to := names[name], filepath.Join(path, name)
		var err error
		if p.inodes[c].isDir {
			err = p.rebuildDir(c, to, fate)
		} else {
			err = p.inodes[c].rebuildFile(to, fate)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *inode) rebuildFile(path string, fate fate) (err error) {
	pages, size := f.content(fate)
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	for i, b := range pages {
		if at := i * page; at < size {
			if _, err := out.WriteAt(b[:min(page, size-at)], at); err != nil {
				return err
			}
		}
	}
	return out.Truncate(size)
}

// everything: all of it reached the disk, as when only the process was killed.
type everything struct{}

func (everything) name(pendingOp) bool      { return true }
func (everything) data(pendingOp, int) bool { return true }
func (everything) size(sizes []sized) int64 { return sizes[len(sizes)-1].size }

// nothing that was not synced did.
type nothing struct{}

func (nothing) name(pendingOp) bool      { return false }
func (nothing) data(pendingOp, int) bool { return false }
func (nothing) size(sizes []sized) int64 { return sizes[0].size }

// ordered: what came before a moment did, and of the write at that moment some first sectors.
type ordered struct{ moment, sectors int }

func (f ordered) name(o pendingOp) bool { return o.at < f.moment }
func (f ordered) data(o pendingOp, sector int) bool {
	return o.at < f.moment || o.at == f.moment && sector < f.sectors
}
func (f ordered) size(sizes []sized) int64 {
	size := sizes[0].size
	for _, s := range sizes[1:] {
		if s.at <= f.moment {
			size = s.size
		}
	}
	return size
}

// scattered: any of it, with these chances.
type scattered struct {
	r            *rand.Rand
	names, datas float64
}

func (f scattered) name(pendingOp) bool      { return f.r.Float64() < f.names }
func (f scattered) data(pendingOp, int) bool { return f.r.Float64() < f.datas }
func (f scattered) size(sizes []sized) int64 {
	if f.r.Float64() < f.datas {
		return sizes[len(sizes)-1].size
	}
	return sizes[f.r.IntN(len(sizes))].size
}

// fateNumber is the i-th way in which the power fails at the present place.
func fateNumber(r *rand.Rand, p *platter, i int) fate {
	switch i % 6 {
	case 0:
		return nothing{}
	case 1:
		return scattered{r, 0.5, 0.5}
	case 2:
		return ordered{p.at - 1 - r.IntN(min(p.at, 20)), r.IntN(9)}
	case 3:
		return scattered{r, []float64{0, 1}[r.IntN(2)], []float64{0.1, 0.9}[r.IntN(2)]}
	case 4:
		return everything{}
	}
	return scattered{r, r.Float64(), r.Float64()}
}
