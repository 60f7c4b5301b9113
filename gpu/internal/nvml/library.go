package nvml

// Library says where NVML is.
type Library struct {
	// Path of libnvidia-ml.so.1, or "": the loader's own search, then the folders where container
	// platforms and the driver container put it.
	Path string
}

// searched, in order, after the dynamic loader's own search. They are where the driver's libraries are when
// no ld.so.cache names them: Debian's and Red Hat's folders, images of cloud platforms, the GPU operator's
// driver container, GKE's nodes, and WSL.
var searched = [...]string{
	"libnvidia-ml.so.1",
	"/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1",
	"/usr/lib/aarch64-linux-gnu/libnvidia-ml.so.1",
	"/usr/lib64/libnvidia-ml.so.1",
	"/usr/local/nvidia/lib64/libnvidia-ml.so.1",
	"/usr/local/nvidia/lib/libnvidia-ml.so.1",
	"/run/nvidia/driver/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1",
	"/run/nvidia/driver/usr/lib64/libnvidia-ml.so.1",
	"/home/kubernetes/bin/nvidia/lib64/libnvidia-ml.so.1",
	"/usr/lib/wsl/lib/libnvidia-ml.so.1",
}

func (l Library) paths() []string {
	if l.Path != "" {
		return []string{l.Path}
	}
	return searched[:]
}
