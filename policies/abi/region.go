package abi

// pageSize is the unit in which changes of a region are remembered, in bytes.
const pageSize = 4096

// region is one array of the node table, as guests see it, with the version at which each of its pages changed last.
type region struct {
	words  []uint64 // so that the bytes are aligned to 8
	size   int      // bytes in use
	stamps []uint64 // by page
}

func (r *region) bytes() []byte { return bytesOf(r.words)[:r.size] }

// grow adds n zero bytes and returns where they begin. What bytes returned before is no longer the region.
func (r *region) grow(n int, version uint64) int {
	at := r.size
	r.size += n
	if need := (r.size + 7) / 8; need > len(r.words) {
		words := make([]uint64, max(need, len(r.words)*3/2, pageSize/8))
		copy(words, r.words)
		r.words = words
	}
	for len(r.stamps)*pageSize < r.size {
		r.stamps = append(r.stamps, version)
	}
	r.touch(at, n, version)
	return at
}

// touch remembers that n bytes from at have changed.
func (r *region) touch(at, n int, version uint64) {
	if n == 0 {
		return
	}
	for p := at / pageSize; p <= (at+n-1)/pageSize; p++ {
		r.stamps[p] = version
	}
}

// eachChange calls fn for every run of bytes that changed after version since.
func (r *region) eachChange(since uint64, fn func(from, to int)) {
	for p := 0; p < len(r.stamps); p++ {
		if r.stamps[p] <= since {
			continue
		}
		from := p * pageSize
		for p < len(r.stamps) && r.stamps[p] > since {
			p++
		}
		fn(from, min(p*pageSize, r.size))
	}
}

// runs hands out runs of entries of a region, and takes them back.
type runs struct{ free map[int][]uint32 } // first entries of free runs, by length

func (f *runs) take(n int) (uint32, bool) {
	if n == 0 {
		return 0, true
	}
	starts := f.free[n]
	if len(starts) == 0 {
		return 0, false
	}
	f.free[n] = starts[:len(starts)-1]
	return starts[len(starts)-1], true
}

func (f *runs) give(first uint32, n int) {
	if n == 0 {
		return
	}
	if f.free == nil {
		f.free = map[int][]uint32{}
	}
	f.free[n] = append(f.free[n], first)
}
