package containerd

import (
	"fmt"
	"os"
	goruntime "runtime"

	"golang.org/x/sys/unix"
)

// onFreshThread runs f on a thread that dies afterwards, so that f may change its namespaces.
// Never on the main thread: /proc/self would show its namespaces for the whole process.
func onFreshThread(f func() error) error {
	errc := make(chan error, 1)
	go func() {
		goruntime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			// While this goroutine holds the main thread another one can't get it.
			defer goruntime.UnlockOSThread()
			errc <- onFreshThread(f)
			return
		}
		errc <- f() // the goroutine ends locked, which ends the thread
	}()
	return <-errc
}

// inNetns runs f on a thread inside the network namespace at path.
func inNetns(path string, f func() error) error {
	return onFreshThread(func() error {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open network namespace %s: %w", path, err)
		}
		defer unix.Close(fd)
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace %s: %w", path, err)
		}
		return f()
	})
}
