package powerloss

// kind says what an op did.
type kind uint8

const (
	write    kind = iota // data at off of inode
	setSize              // inode has size off
	syncFile             // what was done to inode is on the disk
	failSync             // the disk could not: what was done to inode stays in doubt, whatever is synced later
	enter                // name in dir is inode
	leave                // name in dir is nothing
	move                 // name in dir becomes newName in newDir
	syncDir              // what was done to dir is on the disk
	mark                 // the store's clients were promised, or began, what text says
)

// op is one thing that happened to the disk, or a mark between them.
type op struct {
	kind          kind
	inode         int
	off           int64
	data          []byte
	dir, newDir   int
	name, newName string
	isDir         bool // enter: inode is a new folder
	text          string
}

// recording is everything that happened, in order. The root folder is inode 0.
type recording []op
