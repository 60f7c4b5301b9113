package meter_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/pintle/pintle/policies/guest/internal/meter"
)

// The WebAssembly specification's tests, as wazero's module carries them, are run twice: as they are, and rewritten.
// Every result, every trap and every refusal must be the same.
func TestRewrittenModulesPassTheSpecificationsTestsAsTheOriginalsDo(t *testing.T) {
	root := filepath.Join(wazeroDir(t), "internal/integration_test/spectest")
	base, err := os.ReadFile(filepath.Join(root, "testdata/spectest.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	total := &tally{}
	for _, suite := range []string{"v1", "v2", "tail-call", "extended-const"} {
		scripts, err := filepath.Glob(filepath.Join(root, suite, "testdata/*.json"))
		if err != nil || len(scripts) == 0 {
			t.Fatalf("no tests in %s (%v)", suite, err)
		}
		for i, script := range scripts {
			if skipSome && i%12 != 0 {
				continue
			}
			t.Run(suite+"/"+strings.TrimSuffix(filepath.Base(script), ".json"), func(t *testing.T) {
				runScript(t, script, base, total)
			})
		}
	}
	t.Logf("%d modules and %d calls compared; %d invalid modules refused; %d modules left out, since they import a memory",
		total.modules, total.calls, total.refused, total.skipped)
	if total.modules < 100 || total.calls < 1000 || total.refused < 100 {
		t.Error("too little was compared for this to mean anything")
	}
}

// wazeroDir is where wazero's source lies, its tests' data included.
func wazeroDir(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/tetratelabs/wazero").Output()
	if err != nil {
		t.Fatalf("where wazero's source is: %v", err)
	}
	return strings.TrimSpace(string(out))
}

type tally struct{ modules, calls, refused, skipped int }

type script struct {
	Commands []struct {
		Type       string
		Line       int
		Name       string
		Filename   string
		As         string
		ModuleType string `json:"module_type"`
		Action     struct {
			Type   string
			Module string
			Field  string
			Args   []value
		}
	}
}

type value struct {
	Type  string
	Lane  string `json:"lane_type"`
	Value any
}

const specFeatures = api.CoreFeaturesV2 | experimental.CoreFeaturesTailCall | experimental.CoreFeaturesExtendedConst

// world is one of the two ways to run a script.
type world struct {
	runtime wazero.Runtime
	rewrite bool
	all     []api.Module
	named   map[string]api.Module
	last    api.Module
}

func newWorld(ctx context.Context, t *testing.T, base []byte, rewrite bool) *world {
	w := &world{runtime: wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithCoreFeatures(specFeatures)), rewrite: rewrite, named: map[string]api.Module{}}
	if _, err := w.runtime.InstantiateWithConfig(ctx, base, wazero.NewModuleConfig()); err != nil {
		t.Fatal(err)
	}
	return w
}

func runScript(t *testing.T, path string, base []byte, total *tally) {
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var s script
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	worlds := []*world{newWorld(ctx, t, base, false), newWorld(ctx, t, base, true)}
	defer func() {
		for _, w := range worlds {
			w.runtime.Close(ctx)
		}
	}()
	usable := false
	for i, c := range s.Commands {
		where := fmt.Sprintf("%s:%d %s", filepath.Base(path), c.Line, c.Type)
		var outcomes [2]string
		switch c.Type {
		case "module", "assert_uninstantiable", "assert_unlinkable", "assert_invalid", "assert_malformed":
			if c.ModuleType == "text" {
				continue
			}
			wasm, err := os.ReadFile(filepath.Join(filepath.Dir(path), c.Filename))
			if err != nil {
				t.Fatal(err)
			}
			if importsMemory(wasm) {
				usable = usable && c.Type != "module"
				total.skipped++
				continue
			}
			as := ""
			if c.Type == "module" && i+1 < len(s.Commands) && s.Commands[i+1].Type == "register" {
				as = s.Commands[i+1].As
			}
			for k, w := range worlds {
				outcomes[k] = w.load(ctx, wasm, as, c.Name, c.Type == "module")
			}
			if c.Type == "module" {
				usable = outcomes[0] == ""
				total.modules++
			}
			if refusedBoth := outcomes[0] != "" && outcomes[1] != ""; refusedBoth && c.Type != "assert_uninstantiable" {
				total.refused++
				continue // in whose words doesn't matter
			}
		case "assert_return", "assert_trap", "assert_exhaustion", "action":
			if !usable && c.Action.Module == "" {
				continue
			}
			for k, w := range worlds {
				outcomes[k] = w.act(ctx, c.Action.Type, c.Action.Module, c.Action.Field, c.Action.Args)
			}
			total.calls++
		}
		if outcomes[0] != outcomes[1] {
			t.Errorf("%s: the original: %q, rewritten: %q", where, outcomes[0], outcomes[1])
		}
	}
}

func importsMemory(wasm []byte) bool {
	m, err := meter.Parse(wasm)
	return err == nil && slices.ContainsFunc(m.Imports, func(e meter.Extern) bool { return e.Kind == meter.Memory })
}

// load returns "" or why the module can't be used.
func (w *world) load(ctx context.Context, wasm []byte, as, name string, keep bool) string {
	if w.rewrite {
		m, err := meter.Parse(wasm)
		if err == nil {
			wasm, err = m.Rewrite(meter.Options{Tables: 1000, TableEntries: 10_000_000})
		}
		if err != nil {
			return "refused: " + err.Error()
		}
	}
	code, err := w.runtime.CompileModule(ctx, wasm)
	if err != nil {
		return "invalid: " + err.Error()
	}
	mod, err := w.runtime.InstantiateModule(ctx, code, wazero.NewModuleConfig().WithName(as).WithStartFunctions())
	if err == nil && w.rewrite {
		w.all = append(w.all, mod)
		fill(mod)
		if start := mod.ExportedFunction(meter.StartExport); start != nil {
			_, err = start.Call(ctx)
		}
	}
	if err != nil {
		return "can't start: " + reason(err)
	}
	if keep {
		w.last = mod
		if name != "" {
			w.named[name] = mod
		}
	}
	return ""
}

// plenty is fuel and stack for everything: wazero's own stack ends first.
const plenty = 1<<40<<meter.FuelShift | meter.StackMost

func fill(mod api.Module) { mod.ExportedGlobal(meter.FuelExport).(api.MutableGlobal).Set(plenty) }

// reason is an error without where it happened: indices of frames are the same, and texts around them aren't.
func reason(err error) string {
	s, _, _ := strings.Cut(err.Error(), "\nwasm stack trace")
	if i := strings.LastIndex(s, "wasm error: "); i >= 0 {
		s = s[i:]
	}
	return s
}

func (w *world) act(ctx context.Context, kind, module, field string, args []value) string {
	mod := w.last
	if module != "" {
		mod = w.named[module]
	}
	if mod == nil {
		return "no module"
	}
	if kind == "get" {
		g := mod.ExportedGlobal(field)
		if g == nil {
			return "no global"
		}
		return fmt.Sprint(g.Get())
	}
	f := mod.ExportedFunction(field)
	if f == nil {
		return "no function"
	}
	var params []uint64
	for _, a := range args {
		params = append(params, a.bits()...)
	}
	for _, m := range w.all { // what a trap has left behind
		fill(m)
	}
	results, err := f.Call(ctx, params...)
	if err != nil {
		for _, m := range w.all {
			if int64(m.ExportedGlobal(meter.FuelExport).Get()) == meter.OutOfStack {
				return "stack overflow"
			}
		}
		return reason(err)
	}
	for i, t := range f.Definition().ResultTypes() {
		if t == api.ValueTypeExternref || t == 0x70 { // addresses, of the host's
			results[i] = min(results[i], 1)
		}
	}
	return fmt.Sprint(results)
}

func (v value) bits() []uint64 {
	lanes, ok := v.Value.([]any)
	if !ok {
		s, _ := v.Value.(string)
		if v.Type == "externref" && s != "null" && s != "" {
			n, _ := strconv.ParseUint(s, 10, 64)
			return []uint64{n + 1}
		}
		return []uint64{number(s)}
	}
	width := map[string]int{"i8": 8, "i16": 16, "i32": 32, "i64": 64, "f32": 32, "f64": 64}[v.Lane]
	var out [2]uint64
	for i, l := range lanes {
		at := i * width
		out[at/64] |= number(l.(string)) & (1<<width - 1) << (at % 64)
	}
	return out[:]
}

func number(s string) uint64 {
	if v, err := strconv.ParseUint(s, 10, 64); err == nil {
		return v
	}
	v, _ := strconv.ParseInt(s, 10, 64)
	return uint64(v)
}
