package e2e

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	modzip "golang.org/x/mod/zip"
)

const ourModule = "github.com/pintle/pintle"

// A replace or an exclude counts only in the main module: an importer's build would go without them.
func TestTheRootModuleIsTheSameForAnImporter(t *testing.T) {
	file := rootModule(t)
	if len(file.Replace) > 0 || len(file.Exclude) > 0 || len(file.Retract) > 0 {
		t.Errorf("go.mod has %d replaces, %d excludes and %d retracts; an importer's build would not see them",
			len(file.Replace), len(file.Exclude), len(file.Retract))
	}
}

// The program stands outside the repository and knows nothing but a proxy that serves this module's zip.
func TestAProgramOutsideTheRepositoryBuildsAgainstTheModuleZip(t *testing.T) {
	i := publish(t)
	for _, cgo := range []string{"0", "1"} {
		t.Run("CGO_ENABLED="+cgo, func(t *testing.T) {
			i.cgo(cgo)
			binary := filepath.Join(t.TempDir(), "controlplane")
			i.goRun(t, "build", "-o", binary, "./controlplane")
			cmd := exec.Command(binary, t.TempDir())
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if err != nil || string(out) != "4 namespaces\n" || stderr.Len() > 0 {
				t.Errorf("the control plane: %v, stdout %q, stderr %q", err, out, stderr.String())
			}
			if out := i.goRun(t, "run", "./store"); out != "v at 1\n" {
				t.Errorf("the store: %q", out)
			}
			i.goRun(t, "build", "-o", os.DevNull, "./appliance")
		})
	}
}

func TestPartsThatNeedNoKubernetesLinkNone(t *testing.T) {
	i := publish(t)
	i.cgo("0")
	for _, part := range []string{"raftstore", "policies"} {
		if _, err := os.Stat(filepath.Join("../..", part, "doc.go")); err != nil {
			continue // a part to come
		}
		i.write(t, "only"+part+"/main.go", "package main\n\nimport _ \""+ourModule+"/"+part+"\"\n\nfunc main() {}\n")
		for _, dep := range strings.Fields(i.goRun(t, "list", "-deps", "./only"+part)) {
			if strings.HasPrefix(dep, "k8s.io/") || strings.HasPrefix(dep, "sigs.k8s.io/") {
				t.Errorf("importing only %s links %s", part, dep)
			}
		}
	}
}

// importer is a module outside the repository, and the environment in which it is built.
type importer struct {
	dir string
	env []string
}

func (i *importer) cgo(enabled string) {
	i.env = append(i.env[:len(i.env):len(i.env)], "CGO_ENABLED="+enabled)
}

func (i *importer) write(t *testing.T, name, content string) {
	t.Helper()
	file := filepath.Join(i.dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (i *importer) goRun(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Env = i.dir, i.env
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

// publish puts this module's zip into a proxy made of files, and writes a module that requires it. The
// ordinary proxies serve everything else; nothing asks the network for this module.
func publish(t *testing.T) *importer {
	t.Helper()
	proxy := t.TempDir()
	var archive bytes.Buffer
	// The version only has to be the same while it is built; it is replaced by one that names the content.
	version := module.Version{Path: ourModule, Version: "v0.0.0-importer"}
	zipModule(t, &archive, version)
	sum := sha256.Sum256(archive.Bytes())
	version.Version = fmt.Sprintf("v0.0.0-importer.h%x", sum[:8])
	archive.Reset()
	zipModule(t, &archive, version)

	goMod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"list":                    []byte(version.Version + "\n"),
		version.Version + ".info": []byte(`{"Version":"` + version.Version + `"}`),
		version.Version + ".mod":  goMod,
		version.Version + ".zip":  archive.Bytes(),
	} {
		file := filepath.Join(proxy, ourModule, "@v", name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}

	settings := goEnv(t, "GOPROXY", "GOMODCACHE")
	i := &importer{dir: t.TempDir(), env: append(os.Environ(),
		"GOWORK=off", "GOFLAGS=-mod=mod", "GOTOOLCHAIN=local",
		"GOPROXY=file://"+filepath.ToSlash(proxy)+","+settings[0],
		// The checksum database doesn't know this version, and GOPRIVATE would bypass the proxy.
		"GOPRIVATE=", "GONOPROXY=none", "GONOSUMDB="+ourModule)}
	t.Cleanup(func() { forget(t, settings[1], version) })

	i.write(t, "go.mod", "module example.com/importer\n\ngo "+rootModule(t).Go.Version+"\n\nrequire "+ourModule+" "+version.Version+"\n")
	sums, err := os.ReadFile("../../go.sum") // what the checksum database would answer
	if err != nil {
		t.Fatal(err)
	}
	i.write(t, "go.sum", string(sums))
	for name, content := range programs {
		i.write(t, name+"/main.go", content)
	}
	return i
}

// zipModule writes the zip that a proxy would make of the working tree: what git tracks or would add.
func zipModule(t *testing.T, w io.Writer, version module.Version) {
	t.Helper()
	cmd := exec.Command("git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil { // no checkout but an unpacked archive
		if err := modzip.CreateFromDir(w, version, "../.."); err != nil {
			t.Fatal(err)
		}
		return
	}
	var files []modzip.File
	for _, name := range strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		if _, err := os.Stat(filepath.Join("../..", name)); err == nil { // else it was deleted and not committed yet
			files = append(files, treeFile(name))
		}
	}
	if err := modzip.Create(w, version, files); err != nil {
		t.Fatal(err)
	}
}

// treeFile is a file of the working tree, by its path below the root.
type treeFile string

func (f treeFile) Path() string                 { return string(f) }
func (f treeFile) Lstat() (os.FileInfo, error)  { return os.Lstat(filepath.Join("../..", string(f))) }
func (f treeFile) Open() (io.ReadCloser, error) { return os.Open(filepath.Join("../..", string(f))) }

// forget takes the version out of the module cache again.
func forget(t *testing.T, cache string, version module.Version) {
	extracted := filepath.Join(cache, ourModule+"@"+version.Version)
	err := filepath.WalkDir(extracted, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = os.Chmod(path, 0o755) // the cache is read-only
		}
		return err
	})
	if err == nil {
		err = os.RemoveAll(extracted)
	}
	if err != nil && !os.IsNotExist(err) {
		t.Error(err)
	}
	downloads, err := filepath.Glob(filepath.Join(cache, "cache/download", ourModule, "@v", version.Version+".*"))
	if err != nil {
		t.Error(err)
	}
	for _, file := range downloads {
		if err := os.Remove(file); err != nil {
			t.Error(err)
		}
	}
}

func goEnv(t *testing.T, names ...string) []string {
	t.Helper()
	out, err := exec.Command("go", append([]string{"env"}, names...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

func rootModule(t *testing.T) *modfile.File {
	t.Helper()
	data, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	file, err := modfile.Parse("go.mod", data, nil)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// programs are what somebody else might write, by folder.
var programs = map[string]string{
	"controlplane": `package main

import (
	"context"
	"fmt"
	"os"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/pintle/pintle/orchestrator"
)

func main() {
	o, err := orchestrator.New(orchestrator.Config{DataDir: os.Args[1]})
	if err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- o.Run(ctx) }()
	<-o.Ready()
	list, err := kubernetes.NewForConfigOrDie(o.RESTConfig()).CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	if err != nil {
		panic(err)
	}
	fmt.Println(len(list.Items), "namespaces")
	stop()
	if err := <-ended; err != nil {
		panic(err)
	}
}
`,
	"store": `package main

import (
	"context"
	"fmt"

	"github.com/pintle/pintle/raftstore"
)

func main() {
	store, err := raftstore.Open(raftstore.Config{})
	if err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- store.Run(ctx) }()
	<-store.Ready()
	if _, err := store.Put(ctx, "/k", []byte("v")); err != nil {
		panic(err)
	}
	kv, _, err := store.Get(ctx, "/k")
	if err != nil {
		panic(err)
	}
	fmt.Println(string(kv.Value), "at", kv.ModRevision)
	stop()
	if err := <-ended; err != nil {
		panic(err)
	}
	if err := store.Close(); err != nil {
		panic(err)
	}
}
`,
	"appliance": `package main

import (
	"context"
	"os"

	"github.com/pintle/pintle/orchestrator/appliance"
)

func main() {
	a, err := appliance.New(appliance.Config{DataDir: os.Args[1]})
	if err != nil {
		panic(err)
	}
	if err := a.Run(context.Background()); err != nil {
		panic(err)
	}
}
`,
}
