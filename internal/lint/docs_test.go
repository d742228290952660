package lint

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root(t), path))
	require.NoError(t, err)
	return string(b)
}

// The tables of bytes stand in the comments of the code that uses them; the
// protocol's description holds copies.
func TestTablesInTheDocs(t *testing.T) {
	doc := read(t, "docs/protocol.md")
	for _, c := range []struct{ file, comment string }{
		{"ring/layout.go", "// The segment, from"},
		{"ring/layout.go", "// A roster entry"},
		{"ring/format.go", "// The fixed fields"},
		{"ring/header.go", "// The header word"},
		{"ring/doorbell.go", "// The sleep word"},
		{"ring/room.go", "The turn word"},
		{"internal/wire/layout.go", "// The application area"},
		{"internal/wire/layout.go", "// An entry, one per pipe"},
	} {
		table := tableAfter(t, read(t, c.file), c.comment)
		assert.Contains(t, doc, table, "docs/protocol.md differs from %s, %q", c.file, c.comment)
	}
}

// tableAfter returns the first indented block of the comment that begins so.
func tableAfter(t *testing.T, src, comment string) string {
	t.Helper()
	_, rest, ok := strings.Cut(src, comment)
	require.True(t, ok, "no comment %q", comment)
	var table []string
	for line := range strings.Lines(rest) {
		row, in := strings.CutPrefix(line, "//\t")
		switch {
		case in:
			table = append(table, row)
		case len(table) > 0:
			return strings.Join(table, "")
		}
	}
	t.Fatalf("no table after %q", comment)
	return ""
}
