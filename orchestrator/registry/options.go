package registry

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pintle/pintle/orchestrator/api"
)

// ListOptions narrow a List. The zero value is everything, as it is now.
type ListOptions struct {
	Selector labels.Selector // nil: all
	Fields   fields.Selector // nil: all; a label that the kind does not have is a BadRequest
	Limit    int64           // the most entries to return; 0: no limit
	Continue string          // ListResult.Continue of the page before
	// ResourceVersion and ResourceVersionMatch are as in metav1.ListOptions. The cache answers from what
	// is newest; "Exact" is honoured for as long as the recent events reach back to it, and is 410 after.
	ResourceVersion      string
	ResourceVersionMatch metav1.ResourceVersionMatch
}

// ListResult is one page of entries, in the order of namespace and name.
type ListResult struct {
	Entries   []*Entry
	Revision  int64  // at which the whole list holds, the pages before included
	Continue  string // asks for the next page; "" is the last
	Remaining *int64 // how many are on the pages to come; nil: none, or not known because of a selector
}

// WatchOptions say what to watch. The zero value is every change from now on.
type WatchOptions struct {
	Namespace string // "" is all
	Selector  labels.Selector
	Fields    fields.Selector
	// FromRevision delivers what happened after that revision; 0 is now.
	FromRevision int64
	// InitialEvents delivers an ADDED for every object that there is first, then a bookmark with
	// Event.InitialEventsEnd. FromRevision is then the least revision that the state must have.
	InitialEvents bool
	// Bookmarks sends a bookmark now and then when nothing else is sent.
	Bookmarks bool
}

// Event is what a Watcher delivers.
type Event struct {
	Type watch.EventType // Added, Modified, Deleted or Bookmark
	// Entry is the object; for Deleted its last state, at the revision of the deletion; nil for Bookmark.
	Entry    *Entry
	Revision int64
	// InitialEventsEnd is set on the bookmark that ends the initial events.
	InitialEventsEnd bool
}

// CreateOptions go with a creation. User and Groups are who asks, for admission.
type CreateOptions struct {
	User         string
	Groups       []string
	DryRun       bool
	FieldManager string // for the caller's own use: managedFields are the caller's to keep
	// Term, if not 0, fences the write: it fails once a later raft term has begun.
	Term uint64
	// Check sees the object as it would be stored and what is stored (nil: nothing), both shared; its
	// error is the answer. The API server asks there whether a grant of rights escalates.
	Check func(obj, old api.Object) error

	unquestioned bool // see Client.Unquestioned
}

// UpdateOptions go with an update.
type UpdateOptions struct {
	User         string
	Groups       []string
	DryRun       bool
	FieldManager string
	// Force overwrites even when the object names a resourceVersion that is no longer the stored one. An
	// update without a resourceVersion is unconditional anyway.
	Force bool
	Term  uint64                          // as in CreateOptions
	Check func(obj, old api.Object) error // as in CreateOptions

	unquestioned bool // see Client.Unquestioned
}
