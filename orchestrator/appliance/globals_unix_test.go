//go:build unix

package appliance_test

import (
	"fmt"
	"syscall"
)

func platformGlobals() map[string]string {
	mask := syscall.Umask(0o77)
	syscall.Umask(mask)
	var files syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files)
	return map[string]string{"umask": fmt.Sprintf("%#o", mask), "open files": fmt.Sprint(files, err)}
}
