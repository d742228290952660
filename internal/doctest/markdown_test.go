// Package doctest holds the documentation to what it says: its programs run and print what stands behind them, its
// commands exist with those flags, its links lead somewhere, and the tests that it names are there.
package doctest

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// page is one file of Markdown.
type page struct {
	path   string // from the repository's root
	text   string
	prose  []line // outside of fenced blocks
	blocks []block
}

type line struct {
	number int
	text   string
}

// block is a fenced one.
type block struct {
	line  int    // of the opening fence
	label string // what stands behind it: the language, and what this test shall do
	text  string
	gap   int // lines of prose between the previous block and this
}

// shown are pages whose programs and commands are checked: those that tell people what to do.
func (p *page) shown() bool {
	return slices.Contains([]string{"README.md", "CONTRIBUTING.md", "SECURITY.md"}, p.path) ||
		strings.HasPrefix(p.path, "docs/") ||
		strings.HasPrefix(p.path, "examples/") && filepath.Base(p.path) == "README.md"
}

// pages reads all Markdown of the repository.
func pages(t *testing.T) (all []*page) {
	t.Helper()
	eachFile(t, ".md", func(path, text string) { all = append(all, parse(t, path, text)) })
	require.Greater(t, len(all), 15, "the walk must find the pages")
	return all
}

// parse takes the page apart as far as the tests here need. Nested and indented fences are beyond it, and refused.
func parse(t *testing.T, path, text string) *page {
	p := &page{path: path, text: text}
	var b *block
	gap, fence := 0, ""
	for i, l := range strings.Split(text, "\n") {
		mark := strings.TrimLeft(l, "`")
		ticks := l[:len(l)-len(mark)]
		switch {
		case b == nil && len(ticks) >= 3:
			b, fence = &block{line: i + 1, label: strings.TrimSpace(mark), gap: gap}, ticks
		case b != nil && len(ticks) >= len(fence) && mark == "":
			p.blocks, b, gap = append(p.blocks, *b), nil, 0
		case b != nil:
			b.text += l + "\n"
		default:
			require.False(t, strings.HasPrefix(strings.TrimSpace(l), "```"), "%s:%d: fences begin the line", path, i+1)
			if strings.TrimSpace(l) != "" {
				gap++
			}
			p.prose = append(p.prose, line{i + 1, l})
		}
	}
	require.Nil(t, b, "%s: a fence is not closed", path)
	return p
}

// eachFile gives f all files of the repository, also of nested modules, whose names end so.
func eachFile(t *testing.T, suffix string, f func(path, text string)) {
	t.Helper()
	top := root(t)
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != top && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".")) {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, suffix) {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(top, path)
		f(filepath.ToSlash(rel), string(b))
		return err
	})
	require.NoError(t, err)
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	require.NoError(t, err)
	require.True(t, exists(filepath.Join(dir, "go.mod")))
	return dir
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
