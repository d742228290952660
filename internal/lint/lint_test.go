// Package lint holds the rules of this repository that no other tool checks.
package lint

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/shmrouter/shmrouter/"

// Imports point one way. A package may import those listed for it, of this
// module; tests may besides import the helpers in internal/.
var mayImport = map[string][]string{
	"shm":               {"internal/label", "internal/quota"},
	"internal/wire":     {"shm"},
	"ring":              {"shm"},
	"internal/quota":    {},
	"internal/pair":     {"ring", "internal/wire"},
	"internal/hosttest": {},
	"internal/ringtest": {"shm", "ring"},
	"internal/inspect":  {"shm", "ring", "internal/wire"},
	"sender/codec":      {},
	"sender":            {"shm", "ring", "internal/wire", "internal/pair", "internal/label", "sender/codec"},
	"router":            {"shm", "ring", "sender", "internal/wire", "internal/pair", "internal/label", "sender/codec"},
	"internal/label":    {},
	"internal/logwire":  {},
	"sender/slogsender": {"sender", "internal/logwire"},
	"router/slogrouter": {"router", "internal/logwire"},
	"internal/model":    {},
	"internal/lint":     {},
	"internal/doctest":  {},
}

// Packages above the library, which may import all of it.
var above = []string{"bench", "cmd/", "examples/"}

func TestImportsPointOneWay(t *testing.T) {
	eachFile(t, func(path string) {
		dir := filepath.ToSlash(filepath.Dir(path))
		if slices.ContainsFunc(above, func(p string) bool { return strings.HasPrefix(dir+"/", p) }) {
			return
		}
		allowed, known := mayImport[dir]
		require.True(t, known, "%s: say in mayImport where this package stands", dir)
		for _, imp := range imports(t, path) {
			own, ok := strings.CutPrefix(imp, module)
			if !ok || strings.HasSuffix(path, "_test.go") {
				continue
			}
			require.Contains(t, allowed, own, "%s", path)
		}
	})
}

func TestUnsafeLivesInItsFiles(t *testing.T) {
	eachFile(t, func(path string) {
		name := strings.TrimSuffix(strings.TrimSuffix(path, ".go"), "_test")
		stem := strings.Split(filepath.Base(name), "_")
		if slices.Contains(stem, "unsafe") {
			return
		}
		require.NotContains(t, imports(t, path), "unsafe", "%s: belongs into a *_unsafe.go file", path)
	})
}

// The library itself does not speak, and leaves the process alone.
func TestLibraryIsSilent(t *testing.T) {
	for _, dir := range []string{"shm", "ring", "sender", "sender/codec", "router", "internal/wire", "internal/logwire", "sender/slogsender", "router/slogrouter"} {
		eachFile(t, func(path string) {
			if filepath.ToSlash(filepath.Dir(path)) != dir || strings.HasSuffix(path, "_test.go") {
				return
			}
			src, err := os.ReadFile(filepath.Join(root(t), path))
			require.NoError(t, err)
			for _, word := range []string{"fmt.Print", "os.Exit(", "log.Fatal", "log.Print", "os.Stdout", "println("} {
				require.NotContains(t, string(src), word, "%s", path)
			}
		})
	}
}

func eachFile(t *testing.T, f func(path string)) {
	t.Helper()
	top := root(t)
	seen := 0
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			nested := path != top && exists(filepath.Join(path, "go.mod"))
			if nested || d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") {
				return filepath.SkipDir
			}
			return nil
		}
		if strings.HasSuffix(path, ".go") {
			rel, err := filepath.Rel(top, path)
			if err != nil {
				return err
			}
			seen++
			f(rel)
		}
		return nil
	})
	require.NoError(t, err)
	require.Greater(t, seen, 20, "the walk must find the module")
}

func imports(t *testing.T, path string) (all []string) {
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root(t), path), nil, parser.ImportsOnly)
	require.NoError(t, err)
	for _, imp := range f.Imports {
		p, err := strconv.Unquote(imp.Path.Value)
		require.NoError(t, err)
		all = append(all, p)
	}
	return all
}

func root(t *testing.T) string {
	dir, err := os.Getwd()
	require.NoError(t, err)
	for !exists(filepath.Join(dir, "go.mod")) {
		parent := filepath.Dir(dir)
		require.NotEqual(t, dir, parent, "no go.mod above the test")
		dir = parent
	}
	return dir
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
