// Package containertest is what tests of real containers share: whether the machine has the parts, and an image.
package containertest

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Need skips a test on a machine that can't run containers. In CI it fails: there a missing part is a mistake.
func Need(t testing.TB) {
	t.Helper()
	lack := ""
	if os.Geteuid() != 0 {
		lack = "root"
	}
	for _, f := range []string{"/usr/bin/containerd", "/usr/lib/cni/bridge", "/bin/busybox"} {
		if _, err := os.Stat(f); err != nil {
			lack = f
		}
	}
	if lack != "" && os.Getenv("CI") == "true" {
		t.Fatalf("this test needs %s", lack)
	} else if lack != "" {
		t.Skipf("this test needs %s", lack)
	}
}

// Busybox is an image archive of Debian's busybox-static, which runs its arguments in a shell. It has a user web, 1234:4321.
func Busybox(t testing.TB, ref string, env ...string) []byte {
	t.Helper()
	bin, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var files bytes.Buffer
	w := tar.NewWriter(&files)
	write := func(h *tar.Header, data string) {
		h.Size = int64(len(data))
		must(w.WriteHeader(h))
		_, err := io.WriteString(w, data)
		must(err)
	}
	for _, d := range []string{"bin/", "etc/", "tmp/"} {
		write(&tar.Header{Name: d, Typeflag: tar.TypeDir, Mode: 0o755}, "")
	}
	write(&tar.Header{Name: "bin/busybox", Mode: 0o755}, string(bin))
	write(&tar.Header{Name: "bin/sh", Typeflag: tar.TypeSymlink, Linkname: "busybox"}, "")
	write(&tar.Header{Name: "etc/passwd", Mode: 0o644}, "root:x:0:0::/:/bin/sh\nweb:x:1234:4321::/:/bin/sh\n")
	must(w.Close())

	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files.Bytes())), nil })
	must(err)
	img, err := mutate.AppendLayers(empty.Image, layer)
	must(err)
	config, err := img.ConfigFile()
	must(err)
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	config.Config.Entrypoint, config.Config.Env = []string{"/bin/sh", "-c"}, env
	img, err = mutate.ConfigFile(img, config)
	must(err)
	tag, err := name.NewTag(ref)
	must(err)
	var out bytes.Buffer
	must(tarball.Write(tag, img, &out))
	return out.Bytes()
}
