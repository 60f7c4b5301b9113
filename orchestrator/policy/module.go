package policy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/policies/abi"
)

// retryModule is when bytes that could not be read are asked for again: an image may have been imported meanwhile.
const retryModule = 10 * time.Second

// module is one PolicyModule on its way into the host, and what the host has of it.
type module struct {
	name    string
	object  *api.PolicyModule // the newest
	loading string            // the version that is being loaded, "": none
	tried   string            // the version that was tried last
	used    string            // the version that the host has, "": none
	info    abi.Module        // of that
	failed  string            // why the version that was tried isn't used
	retry   time.Time         // when to try it again; zero: never
}

// version names what an object asks for: another spec or upload is another one.
func version(o api.Object) string { return fmt.Sprintf("%s/%d", o.GetUID(), o.GetGeneration()) }

// missing says that there are no bytes to load yet.
func (m *module) missing() bool {
	s := &m.object.Spec.Source
	return len(s.Inline) == 0 && s.Image == "" && s.Embedded == "" && m.object.Status.Upload == nil
}

// coming says that a version is on its way that may be better than what there is.
func (m *module) coming() bool {
	return m.loading != "" || m.tried != version(m.object) && !m.missing()
}

type loadResult struct {
	name, version string
	info          abi.Module
	err           error
	again         bool // whether another try may do better
}

// syncModules begins to load what is new, and forgets what is no more. It returns the names of those, which the host
// still has.
func (s *syncer) syncModules(ctx context.Context, group *errgroup.Group, objects []api.Object) (gone []string, wait time.Duration) {
	there := map[string]bool{}
	now := s.cfg.Clock.Now()
	for _, o := range objects {
		object := o.(*api.PolicyModule)
		there[object.Name] = true
		m := s.modules[object.Name]
		if m == nil {
			m = &module{name: object.Name}
			s.modules[object.Name] = m
		}
		m.object = object
		want := version(object)
		due := m.tried == want && !m.retry.IsZero() && !now.Before(m.retry)
		switch {
		case m.loading != "": // what comes of it is told; then the newest is looked at again
		case m.missing():
			m.tried, m.failed = want, ""
		case m.tried != want || due:
			m.loading, m.tried, m.retry = want, want, time.Time{}
			group.Go(func() error {
				s.load(ctx, object, want)
				return nil
			})
		case !m.retry.IsZero():
			if left := m.retry.Sub(now); wait == 0 || left < wait {
				wait = left
			}
		}
	}
	for name, m := range s.modules {
		if !there[name] && m.loading == "" {
			delete(s.modules, name)
			gone = append(gone, name)
		}
	}
	return gone, wait
}

// load reads a version's bytes and gives them to the host.
func (s *syncer) load(ctx context.Context, m *api.PolicyModule, want string) {
	select {
	case s.loading <- struct{}{}:
		defer func() { <-s.loading }()
	case <-ctx.Done():
		return
	}
	result := loadResult{name: m.Name, version: want}
	wasm, err := s.read(ctx, m)
	if result.again = err != nil; err == nil {
		if err = checkDigest(wasm, m.Spec.Digest); err == nil {
			result.info, err = s.host.Load(ctx, m.Name, wasm)
		}
	}
	result.err = err
	select {
	case s.loaded <- result:
	case <-ctx.Done():
	}
}

func (s *syncer) read(ctx context.Context, m *api.PolicyModule) ([]byte, error) {
	source := &m.Spec.Source
	switch {
	case len(source.Inline) > 0:
		return source.Inline, nil
	case source.Image != "":
		if s.cfg.Image == nil {
			return nil, errors.New("this control plane has no store of images: upload the module instead")
		}
		return s.cfg.Image(ctx, source.Image)
	case source.Embedded != "":
		if s.cfg.Embedded == nil {
			return nil, fmt.Errorf("this program brings no modules along, so not %q either", source.Embedded)
		}
		return readEmbedded(s.cfg.Embedded, source.Embedded)
	}
	data, _, err := s.client.Bytes(ctx, modulesGVR(), "", m.Name)
	return data, err
}

func readEmbedded(files fs.FS, name string) ([]byte, error) {
	f, err := files.Open(name)
	if err != nil {
		return nil, fmt.Errorf("among the modules that this program brings along: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, api.MaxPolicyModule+1))
	if err == nil && len(data) > api.MaxPolicyModule {
		err = fmt.Errorf("%s is larger than 32 MiB", name)
	}
	return data, err
}

func checkDigest(wasm []byte, want string) error {
	sum := sha256.Sum256(wasm)
	if got := "sha256:" + hex.EncodeToString(sum[:]); want != "" && got != want {
		return fmt.Errorf("the bytes have the digest %s, and spec.digest asks for %s", got, want)
	}
	return nil
}

// finished records what came of a load.
func (s *syncer) finished(r loadResult) {
	m := s.modules[r.name]
	m.loading = ""
	if r.err != nil {
		m.failed = r.err.Error()
		if r.again {
			m.retry = s.cfg.Clock.Now().Add(retryModule)
		}
		s.log.Warn("a policy module can't be used", "module", r.name, "error", r.err)
		return
	}
	m.used, m.info, m.failed = r.version, r.info, ""
}

// state is what is said of the module.
func (m *module) state() (api.PolicyModuleState, string) {
	switch {
	case m.missing():
		return api.ModulePending, "nothing has been uploaded: kubectl replace --raw /apis/" + modulesGVR().GroupVersion().String() +
			"/policymodules/" + m.name + "/wasm -f FILE.wasm"
	case m.loading != "" || m.tried != version(m.object):
		return api.ModuleCompiling, ""
	case m.failed != "" && m.used != "":
		return api.ModuleFailed, m.failed + "; the previous version stays in use"
	case m.failed != "":
		return api.ModuleFailed, m.failed
	}
	return api.ModuleReady, ""
}
