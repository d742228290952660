package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Where the library asks for the time by time.Now, and why that is not the wall clock: what is compared with
// another time.Now of the same process is the monotonic half.
var mayAsk = map[string]string{
	"shm/clock.go":    "ties the runtime's monotonic clock to the kernel's",
	"ring/format.go":  "the date of a segment, which people read and nothing else does",
	"router/stats.go": "the rate of log lines, by Sub",
}

// What says something about the wall clock: methods of time.Time, functions, constants.
var wallClock = []string{
	"Unix", "UnixMilli", "UnixMicro", "UnixNano", "Date", "Local", "UTC", "ModTime", "CLOCK_REALTIME",
	"FUTEX_CLOCK_REALTIME", "FUTEX_LOCK_PI", "Gettimeofday", "TFD_TIMER_CANCEL_ON_SET",
}

// Somebody sets the clock, or the machine was suspended: the library does not notice, because it never asks.
// Everything between processes is in the kernel's monotonic time, shm.Now.
func TestNoWallClock(t *testing.T) {
	asked := map[string]bool{}
	for _, dir := range []string{"shm", "ring", "sender", "sender/codec", "router", "internal/wire"} {
		eachFile(t, func(path string) {
			if filepath.ToSlash(filepath.Dir(path)) != dir || strings.HasSuffix(path, "_test.go") {
				return
			}
			src, err := os.ReadFile(filepath.Join(root(t), path))
			require.NoError(t, err)
			file, err := parser.ParseFile(token.NewFileSet(), path, src, 0)
			require.NoError(t, err)
			ast.Inspect(file, func(n ast.Node) bool {
				sel, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				x, _ := sel.X.(*ast.Ident)
				if x != nil && x.Name == "time" && sel.Sel.Name == "Now" {
					asked[filepath.ToSlash(path)] = true
				}
				for _, word := range wallClock {
					if sel.Sel.Name == word && filepath.ToSlash(path) != "ring/format.go" {
						t.Errorf("%s: %s is of the wall clock", path, word)
					}
				}
				return true
			})
		})
	}
	for path := range asked {
		assert.Contains(t, mayAsk, path, "time.Now: say in mayAsk why it may, or use shm.Now")
	}
	for path := range mayAsk {
		assert.True(t, asked[path], "%s: does not ask any more", path)
	}
}
