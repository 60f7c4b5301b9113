package localpath

// Quota holds folders to a size, by the filesystem's projects. Its methods may be called at the same time.
type Quota interface {
	// Limit makes the folder, which is empty or has the project already, and what comes into it the project's, and limits the
	// project to that many bytes. With no folder and 0 it gives the project back.
	Limit(dir string, project uint32, bytes int64) error
	// Used is what the project's files take, in bytes; 0 for a project that nobody uses.
	Used(project uint32) (int64, error)
}
