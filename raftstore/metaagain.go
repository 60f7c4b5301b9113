package raftstore

import "fmt"

// metaAgain writes the newest meta page of the state file once more, as it is, and syncs it: a sync that failed may have
// left it in the page cache alone, where it counts as written. It comes before any transaction, because the next one
// writes to pages that this meta page says are free, and the one on the disk, if it is older, may need them. The page's
// own pages are durable: bbolt syncs them before it writes the meta page.
func (db *openDB) metaAgain() error {
	size := int64(db.Info().PageSize)
	w := &pageWalk{r: db.file}
	at := int64(0)
	if first, second := w.meta(0), w.meta(size); second.readable && (!first.readable || second.transaction > first.transaction) {
		at = size
	}
	page := make([]byte, size)
	if _, err := db.file.ReadAt(page, at); err != nil {
		return fmt.Errorf("read the meta page: %w", err)
	}
	if _, err := db.file.WriteAt(page, at); err != nil {
		return fmt.Errorf("write the meta page again: %w", err)
	}
	if err := syncData(db.file); err != nil {
		return fmt.Errorf("sync the meta page again: %w", err)
	}
	return nil
}
