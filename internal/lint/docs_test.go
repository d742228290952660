package lint

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
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
		{"ring/header.go", "// The header word"},
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

var testName = regexp.MustCompile("`((?:Test|Example|Fuzz)\\w*)`")

// Every test that docs/testing.md and docs/failure.md name exists, be it in a
// module of its own.
func TestNamedTestsExist(t *testing.T) {
	var all strings.Builder
	top := root(t)
	require.NoError(t, filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if strings.HasSuffix(path, "_test.go") {
			src, err := os.ReadFile(path)
			all.Write(src)
			return err
		}
		return nil
	}))
	for _, page := range []string{"docs/testing.md", "docs/failure.md"} {
		names := testName.FindAllStringSubmatch(read(t, page), -1)
		require.NotEmpty(t, names)
		for _, n := range names {
			assert.True(t, strings.Contains(all.String(), "func "+n[1]+"("), "%s names %s, which is not there", page, n[1])
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)

// Links within the repository lead somewhere.
func TestLinksInTheDocs(t *testing.T) {
	top := root(t)
	seen := 0
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".md") {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, l := range link.FindAllStringSubmatch(string(b), -1) {
			seen++
			assert.True(t, exists(filepath.Join(filepath.Dir(path), l[1])), "%s: link to %s", path, l[1])
		}
		return nil
	})
	require.NoError(t, err)
	require.Greater(t, seen, 10)
}
