package policy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator/api"
	"github.com/pintle/pintle/orchestrator/registry"
)

func TestARefusalSaysWhatThePolicySays(t *testing.T) {
	c := start(t)
	c.module("m", "refuse not on a Friday")
	c.policy("friday", "m")
	c.decides("friday", reasonDeciding)
	_, _, err := c.write("a")
	if !apierrors.IsForbidden(err) || err.Error() != `admission policy "friday" denied the request: not on a Friday` {
		t.Errorf("got %v", err)
	}
	c.module("teapot", "refuse short and stout\ncode 418")
	c.policy("a-teapot", "teapot") // before friday by its name
	c.decides("a-teapot", reasonDeciding)
	_, _, err = c.write("a")
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Code != http.StatusTeapot || !strings.Contains(err.Error(), "short and stout") {
		t.Errorf("got %v", err)
	}
}

// Those that mutate go first, by order and name; each sees what the one before made, and the registry defaults and
// checks what comes out.
func TestPoliciesGoInOrderAndSeeEachOthersWork(t *testing.T) {
	c := start(t)
	for name, text := range map[string]string{"one": "label n=1", "two": "label n=2", "needs": "refuse-without n", "wrecks": `patch {"metadata":{"labels":{"-bad-":"x"}}}`} {
		c.module(name, text)
	}
	c.policy("z-first", "one", mutate, order(-5))
	c.policy("a-second", "two", mutate, order(1))
	c.policy("a-check", "needs", order(-100)) // validates, so after those
	for _, name := range []string{"z-first", "a-second", "a-check"} {
		c.decides(name, reasonDeciding)
	}
	cm, _, err := c.write("a")
	if err != nil || cm.Labels["n"] != "2" {
		t.Fatalf("%v %v", cm, err)
	}
	c.policy("wreck", "wrecks", mutate, order(9))
	c.decides("wreck", reasonDeciding)
	if _, _, err := c.write("b"); !apierrors.IsInvalid(err) {
		t.Errorf("a patch that makes an invalid object: %v", err)
	}
}

func TestMutationsAreDefaultedPreparedAndCounted(t *testing.T) {
	c := start(t)
	c.module("m", `patch {"spec":{"role":"Voter"},"status":{"address":"10.0.0.1:1"}}`)
	c.policy("p", "m", mutate, func(s *api.AdmissionPolicySpec) {
		s.MatchConstraints.ResourceRules[0].APIGroups, s.MatchConstraints.ResourceRules[0].APIVersions = []string{"cluster.pintle.dev"}, []string{"*"}
		s.MatchConstraints.ResourceRules[0].Resources = []string{"members", "members/status"}
	})
	c.decides("p", reasonDeciding)
	gvr := api.ClusterGroupVersion().WithResource("members")
	o, err := c.Create(t.Context(), gvr, &api.Member{ObjectMeta: metav1.ObjectMeta{Name: "x"}})
	if err != nil {
		t.Fatal(err)
	}
	m := o.(*api.Member)
	if m.Spec.Role != api.MemberVoter || m.Status.Address != "" || m.Generation != 1 {
		t.Errorf("created: %+v", m)
	}
	again := m.DeepCopyObject().(*api.Member)
	again.Spec.Role = "" // which the policy undoes: nothing has changed then
	o, err = c.Update(t.Context(), gvr, "", again)
	if err != nil || o.GetGeneration() != 1 || o.GetResourceVersion() != m.ResourceVersion {
		t.Errorf("an update that the policy undoes: %+v, %v", o, err)
	}
	status := m.DeepCopyObject().(*api.Member)
	status.Status.Version = "1"
	o, err = c.Update(t.Context(), gvr, "status", status)
	if err != nil {
		t.Fatal(err)
	}
	if m := o.(*api.Member); m.Status.Address != "10.0.0.1:1" || m.Status.Version != "1" || m.Generation != 1 {
		t.Errorf("after a status update: %+v", m)
	}
}

func TestModesThatOnlyWatchChangeNothing(t *testing.T) {
	c := start(t)
	c.module("no", "refuse never")
	c.module("label", "label x=y\nwarn mind the gap")
	c.policy("audited", "no", mode(api.PolicyAudit))
	c.policy("warned", "no", mode(api.PolicyWarn))
	c.policy("label-audited", "label", mutate, mode(api.PolicyAudit))
	c.policy("label-warned", "label", mutate, mode(api.PolicyWarn))
	for _, name := range []string{"audited", "warned", "label-audited", "label-warned"} {
		c.decides(name, reasonDeciding)
	}
	cm, warnings, err := c.write("a")
	if err != nil || len(cm.Labels) != 0 {
		t.Errorf("%v, %v", cm, err)
	}
	if want := []string{"mind the gap", `admission policy "warned" would refuse this: never`}; !slices.Equal(warnings, want) {
		t.Errorf("got %q, want %q", warnings, want)
	}
}

func TestAPolicyThatFails(t *testing.T) {
	c := start(t)
	c.module("m", "fail")
	c.module("patches", "label a=b")
	p := c.policy("p", "m")
	c.decides("p", reasonDeciding)
	if _, _, err := c.write("a"); !apierrors.IsInternalError(err) || !strings.Contains(err.Error(), `admission policy "p" could not decide: it trapped`) {
		t.Errorf("got %v", err)
	}
	for n, change := range []func(*api.AdmissionPolicySpec){ignore, mode(api.PolicyAudit), mode(api.PolicyWarn)} {
		mergePatch(t, c, admissionGVR(), p.Name, func(o api.Object) {
			s := &o.(*api.AdmissionPolicy).Spec
			s.FailurePolicy, s.Mode = api.PolicyFail, api.PolicyEnforce
			change(s)
		})
		c.decides("p", reasonDeciding)
		if _, warnings, err := c.write(fmt.Sprint("b", n)); err != nil || (n == 2) != (len(warnings) == 1) {
			t.Errorf("%d: got %v, %q", n, err, warnings)
		}
	}
	c.policy("patcher", "patches") // of type validate
	c.decides("patcher", reasonDeciding)
	if _, _, err := c.write("c"); err == nil || !strings.Contains(err.Error(), "it answers with a patch, and its type is validate") {
		t.Errorf("got %v", err)
	}
}

// The worst policy there is can be deleted, and its module, too.
func TestAPolicyCanNotLockOutItsRemoval(t *testing.T) {
	c := start(t)
	c.module("m", "refuse everything")
	c.policy("p", "m", func(s *api.AdmissionPolicySpec) {
		rule := &s.MatchConstraints.ResourceRules[0]
		rule.APIGroups, rule.APIVersions, rule.Resources = []string{"*"}, []string{"*"}, []string{"*/*"}
	})
	c.decides("p", reasonDeciding)
	if _, _, err := c.write("a"); err == nil {
		t.Fatal("it refuses nothing")
	}
	if err := c.Delete(t.Context(), admissionGVR(), "", "p", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(t.Context(), modulesGVR(), "", "m", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually(func() string {
		if _, _, err := c.write("a"); err != nil {
			return err.Error()
		}
		return ""
	})
	if _, err := c.Client.Unquestioned().Create(t.Context(), gvrOf("", "namespaces"), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kube-system"}}); err != nil {
		t.Errorf("a write that nobody is asked about: %v", err)
	}
}

func TestAWriteWaitsForAPolicyThatIsOnItsWay(t *testing.T) {
	c := start(t)
	gate := make(chan struct{})
	c.host.mu.Lock()
	c.host.gate = gate
	c.host.mu.Unlock()
	c.create("policy", "policymodules", &api.PolicyModule{ObjectMeta: metav1.ObjectMeta{Name: "m"}, Spec: api.PolicyModuleSpec{Source: api.PolicyModuleSource{Inline: wasm("refuse no")}}})
	c.policy("p", "m")
	c.policy("easy", "m", ignore)
	c.decides("p", reasonModuleNotReady)
	time.AfterFunc(100*time.Millisecond, func() { close(gate) })
	if _, _, err := c.write("a"); err == nil || !strings.Contains(err.Error(), "denied the request: no") {
		t.Errorf("got %v", err)
	}
	c.policy("lost", "nowhere")
	c.decides("lost", reasonModuleNotFound)
	if err := c.Delete(t.Context(), admissionGVR(), "", "p", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(t.Context(), admissionGVR(), "", "easy", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	c.eventually(func() string {
		if _, _, err := c.write("b"); err == nil || !apierrors.IsServiceUnavailable(err) || !strings.Contains(err.Error(), `there is no PolicyModule "nowhere"`) {
			return fmt.Sprint("got ", err)
		}
		return ""
	})
	if took := time.Since(begun); took > c.engine.cfg.Patience {
		t.Errorf("nothing is on its way, and the write waited %v", took)
	}
}

func TestBeforeThePoliciesAreReadNoWritePasses(t *testing.T) {
	engine, err := New(Config{Host: newFakeHost(), Patience: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	kind := kindNamed(t, "", "ConfigMap")
	if err := engine.Admit(t.Context(), registry.Request{Operation: "CREATE", Kind: kind, Object: kind.New()}); !apierrors.IsServiceUnavailable(err) {
		t.Errorf("got %v", err)
	}
	kind = kindNamed(t, "policy.pintle.dev", "AdmissionPolicy")
	if err := engine.Admit(t.Context(), registry.Request{Operation: "DELETE", Kind: kind, Old: kind.New()}); err != nil {
		t.Errorf("a policy can't be deleted: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := engine.Admit(ctx, registry.Request{Operation: "CREATE", Kind: kindNamed(t, "", "Pod")}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// A version that can't be used leaves the one before as a whole: its module, its settings, its rules.
func TestThePreviousVersionDecidesUntilThereIsABetterOne(t *testing.T) {
	c := start(t)
	c.module("m", "strict\nrefuse first")
	c.policy("p", "m")
	c.decides("p", reasonDeciding)
	refuses := func(want string) {
		t.Helper()
		if _, _, err := c.write("a"); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	refuses("first")

	mergePatch(t, c, modulesGVR(), "m", func(o api.Object) { o.(*api.PolicyModule).Spec.Source.Inline = wasm("broken") })
	if m := c.state("m", api.ModuleFailed); !strings.Contains(m.Status.Message, "it does not compile; the previous version stays in use") || m.Status.Size == 0 {
		t.Errorf("%+v", m.Status)
	}
	c.decides("p", reasonDeciding)
	refuses("first")

	mergePatch(t, c, admissionGVR(), "p", func(o api.Object) {
		p := o.(*api.AdmissionPolicy)
		settings("odd")(&p.Spec)
		p.Spec.MatchConstraints.ResourceRules[0].Resources = []string{"secrets"}
	})
	if p := c.decides("p", reasonSettingsRefused); !strings.Contains(p.Status.Conditions[0].Message, "the previous version decides") || p.Status.Conditions[0].Status != metav1.ConditionFalse {
		t.Errorf("%+v", p.Status)
	}
	refuses("first") // about ConfigMaps still

	mergePatch(t, c, modulesGVR(), "m", func(o api.Object) { o.(*api.PolicyModule).Spec.Source.Inline = wasm("refuse second") })
	c.state("m", api.ModuleReady)
	c.decides("p", reasonDeciding) // the new module takes the settings
	if _, _, err := c.write("a"); err != nil {
		t.Errorf("the rules name Secrets now: %v", err)
	}
	mergePatch(t, c, admissionGVR(), "p", func(o api.Object) { o.(*api.AdmissionPolicy).Spec.MatchConstraints = onConfigMaps() })
	c.decides("p", reasonDeciding)
	if _, _, err := c.write("b"); err == nil || !strings.HasSuffix(err.Error(), "second") {
		t.Errorf("got %v", err)
	}
}

func TestSettingsThatAreRefusedFromTheStartHoldUpNobody(t *testing.T) {
	c := start(t)
	c.module("m", "strict\nrefuse one")
	c.policy("bad", "m", settings("odd"), ignore)
	c.policy("good", "m")
	c.decides("bad", reasonSettingsRefused)
	c.decides("good", reasonDeciding)
	mergePatch(t, c, modulesGVR(), "m", func(o api.Object) { o.(*api.PolicyModule).Spec.Source.Inline = wasm("strict\nrefuse two") })
	c.state("m", api.ModuleReady)
	if _, _, err := c.write("a"); err == nil || !strings.HasSuffix(err.Error(), "two") {
		t.Errorf("got %v", err)
	}
}

func TestModulesComeFromWhereTheySay(t *testing.T) {
	images := atomic.Int32{}
	c := start(t, func(cfg *Config) {
		cfg.Embedded = fstest.MapFS{"policies/a.wasm": {Data: wasm("embedded")}}
		cfg.Image = func(_ context.Context, image string) ([]byte, error) {
			images.Add(1)
			if image != "there" {
				return nil, errors.New("no such image")
			}
			return wasm("image"), nil
		}
	})
	add := func(name string, spec api.PolicyModuleSpec) {
		c.create("policy", "policymodules", &api.PolicyModule{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec})
	}
	add("embedded", api.PolicyModuleSpec{Source: api.PolicyModuleSource{Embedded: "policies/a.wasm"}})
	add("image", api.PolicyModuleSpec{Source: api.PolicyModuleSource{Image: "there"}})
	add("gone", api.PolicyModuleSpec{Source: api.PolicyModuleSource{Image: "gone"}})
	add("missing", api.PolicyModuleSpec{Source: api.PolicyModuleSource{Embedded: "b.wasm"}})
	add("other", api.PolicyModuleSpec{Source: api.PolicyModuleSource{Inline: wasm("x")}, Digest: "sha256:" + strings.Repeat("0", 64)})
	add("uploaded", api.PolicyModuleSpec{})
	for name, want := range map[string]string{"embedded": "", "image": "", "gone": "no such image", "missing": "b.wasm", "other": "spec.digest asks for", "uploaded": "kubectl replace --raw"} {
		state := api.ModuleReady
		switch {
		case name == "uploaded":
			state = api.ModulePending
		case want != "":
			state = api.ModuleFailed
		}
		if m := c.state(name, state); !strings.Contains(m.Status.Message, want) {
			t.Errorf("%s: %+v", name, m.Status)
		} else if want == "" && (m.Status.ABI != "fake" || m.Status.Toolchain != "pen" || m.Status.Size == 0 || m.Status.Digest == "") {
			t.Errorf("%s: %+v", name, m.Status)
		}
	}
	large := wasm("uploaded " + strings.Repeat("x", 3<<20))
	for n := range 2 {
		large[20] = byte('0' + n)
		if _, err := c.registry.PutBytes(t.Context(), modulesGVR(), "", "uploaded", large, registry.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		m := c.state("uploaded", api.ModuleReady)
		if m.Status.Digest != m.Status.Upload.Digest || m.Status.Size != int64(len(large)) || m.Generation != int64(n)+2 {
			t.Errorf("%+v", m.Status)
		}
	}
}

// Writes go on while modules and policies change, come and go: none fails that no policy refuses, and each is decided
// by one version.
func TestNoWriteFailsWhilePoliciesChange(t *testing.T) {
	c := start(t)
	c.module("m", "label v=0")
	c.policy("p", "m", mutate)
	c.decides("p", reasonDeciding)
	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				cm, _, err := c.writeUnder(t.Context(), fmt.Sprintf("w%d-%d", w, n))
				if err != nil {
					t.Errorf("write: %v", err)
					return
				}
				if v := cm.Labels["v"]; v == "" || cm.Labels["w"] != "" && cm.Labels["w"] != "1" {
					t.Errorf("decided by none or by half: %v", cm.Labels)
					return
				}
			}
		})
	}
	for n := 1; n <= 15; n++ {
		mergePatch(t, c, modulesGVR(), "m", func(o api.Object) {
			o.(*api.PolicyModule).Spec.Source.Inline = wasm(fmt.Sprintf("label v=%d", n))
		})
		mergePatch(t, c, admissionGVR(), "p", func(o api.Object) { o.(*api.AdmissionPolicy).Spec.Order = int32(n) })
		extra := fmt.Sprint("extra", n)
		c.policy(extra, "m", mutate)
		c.decides(extra, reasonDeciding)
		if err := c.Delete(t.Context(), admissionGVR(), "", extra, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	}
	c.state("m", api.ModuleReady)
	cancel()
	writers.Wait()
	if cm, _, err := c.write("last"); err != nil || cm.Labels["v"] != "15" {
		t.Errorf("%v %v", cm, err)
	}
}

// Whatever policies there are, in whatever order they were stored: audit and warn change no stored object, and what
// the others make of it depends on their order and names alone.
func TestTheStoredObjectDependsOnOrderAlone(t *testing.T) {
	c := start(t)
	c.module("m", "")
	random := rand.New(rand.NewPCG(7, 7))
	for round := range 12 {
		type one struct {
			name, does string
			order      int32
			mode       api.AdmissionPolicyMode
		}
		var all []one
		for n := range 2 + random.IntN(6) {
			all = append(all, one{fmt.Sprintf("p%d", n), fmt.Sprintf("label k%d=%s", random.IntN(3), fmt.Sprintf("p%d", n)), int32(random.IntN(3) - 1),
				[]api.AdmissionPolicyMode{api.PolicyEnforce, api.PolicyEnforce, api.PolicyAudit, api.PolicyWarn}[random.IntN(4)]})
		}
		sorted := slices.Clone(all)
		slices.SortStableFunc(sorted, func(a, b one) int { return int(a.order - b.order) })
		want := map[string]string{}
		for _, p := range sorted {
			if p.mode == api.PolicyEnforce {
				key, value, _ := strings.Cut(strings.TrimPrefix(p.does, "label "), "=")
				want[key] = value
			}
		}
		random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		for _, p := range all {
			c.policy(p.name, "m", mutate, order(p.order), mode(p.mode), settings(p.does))
		}
		for _, p := range all {
			c.decides(p.name, reasonDeciding)
		}
		cm, _, err := c.write(fmt.Sprint("r", round))
		if err != nil || len(want)+len(cm.Labels) > 0 && fmt.Sprint(cm.Labels) != fmt.Sprint(want) {
			t.Fatalf("round %d: got %v, want %v of %+v: %v", round, cm.Labels, want, sorted, err)
		}
		for _, p := range all {
			if err := c.Delete(t.Context(), admissionGVR(), "", p.name, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		c.eventually(func() string {
			if n := len(c.engine.table.Load().admission); n > 0 {
				return fmt.Sprint(n, " policies are left")
			}
			return ""
		})
	}
}

func TestStatusesCountCalls(t *testing.T) {
	c := start(t)
	c.module("m", "refuse no")
	c.policy("p", "m")
	c.decides("p", reasonDeciding)
	for range 3 {
		_, _, _ = c.write("a")
	}
	var p *api.AdmissionPolicy
	c.eventually(func() string {
		if p = c.decides("p", reasonDeciding); p.Status.Calls == 3 && p.Status.Rejections == 3 {
			return ""
		}
		return fmt.Sprintf("%+v", p.Status)
	})
	if p.Status.ObservedGeneration != 1 || p.Status.Digest == "" {
		t.Errorf("%+v", p.Status)
	}
	time.Sleep(2 * reportPause)
	o, err := c.Get(t.Context(), admissionGVR(), "", "p")
	if err != nil || o.GetResourceVersion() != p.ResourceVersion {
		t.Errorf("a status that is as it was was written again: %v", err)
	}
}

func TestNamespacesAreReadAsTheyAre(t *testing.T) {
	c := start(t)
	c.module("m", "refuse no")
	c.policy("p", "m", func(s *api.AdmissionPolicySpec) {
		s.MatchConstraints.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"env": "test"}}
	})
	c.decides("p", reasonDeciding)
	if _, _, err := c.write("a"); err != nil {
		t.Fatal(err)
	}
	mergePatch(t, c, gvrOf("", "namespaces"), "default", func(o api.Object) { o.SetLabels(map[string]string{"env": "test"}) })
	if _, _, err := c.write("b"); err == nil {
		t.Error("the namespace's new labels don't count yet")
	}
}

func TestConnectionsAreAskedAbout(t *testing.T) {
	c := start(t)
	c.module("m", "refuse no shells")
	c.policy("p", "m", func(s *api.AdmissionPolicySpec) {
		s.MatchConstraints.ResourceRules[0].Operations = []admissionv1.OperationType{admissionv1.Connect}
		s.MatchConstraints.ResourceRules[0].Resources = []string{"pods/exec"}
	})
	c.decides("p", reasonDeciding)
	if err := c.registry.Connect(t.Context(), podsGVR(), "exec", "default", "x", "me", nil); err == nil || !strings.Contains(err.Error(), "no shells") {
		t.Errorf("got %v", err)
	}
	if err := c.registry.Connect(t.Context(), podsGVR(), "attach", "default", "x", "me", nil); err != nil {
		t.Errorf("got %v", err)
	}
}
