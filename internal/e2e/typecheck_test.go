package e2e

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/go/packages"
)

// Elsewhere than on Linux the same packages must compile, and the benchmarks everywhere. To check types needs a tenth of
// what a compiler needs, and finds what a compiler would.
func TestEveryPackageIsSoundElsewhere(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, dir string
		env       []string
	}{
		{"darwin", "../..", []string{"GOOS=darwin", "CGO_ENABLED=0"}},
		{"linux without cgo", "../..", []string{"GOOS=linux", "CGO_ENABLED=0"}},
		{"the benchmarks", "../../examples/bench", []string{"GOOS=linux", "CGO_ENABLED=0"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir, err := filepath.Abs(tc.dir)
			if err != nil {
				t.Fatal(err)
			}
			found, err := packages.Load(&packages.Config{
				Mode: packages.NeedName | packages.NeedFiles | packages.NeedCompiledGoFiles | packages.NeedImports | packages.NeedDeps |
					packages.NeedSyntax | packages.NeedTypes | packages.NeedTypesInfo | packages.NeedTypesSizes,
				Dir: dir, Env: append(os.Environ(), tc.env...), ParseFile: bodiesOf(filepath.Dir(filepath.Dir(mustAbs(t, ".")))),
			}, "./...")
			if err != nil {
				t.Fatal(err)
			}
			if len(found) < 5 {
				t.Fatalf("only %d packages were found", len(found))
			}
			for _, p := range found {
				for _, problem := range p.Errors {
					t.Error(problem)
				}
			}
		})
	}
}

// bodiesOf parses files, those outside the folder without what their functions do.
func bodiesOf(folder string) func(*token.FileSet, string, []byte) (*ast.File, error) {
	return func(files *token.FileSet, name string, src []byte) (*ast.File, error) {
		file, err := parser.ParseFile(files, name, src, parser.SkipObjectResolution)
		if err != nil || strings.HasPrefix(name, folder+string(filepath.Separator)) {
			return file, err
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				f.Body = nil
			}
		}
		return file, nil
	}
}

func mustAbs(t *testing.T, path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}
