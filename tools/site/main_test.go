package main

import (
	"bytes"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"
)

// Of the whole site every link and picture is there, headings included, and nothing is loaded from elsewhere.
func TestSite(t *testing.T) {
	out := t.TempDir()
	require.NoError(t, build("../..", out))
	pages := map[string]*html.Node{}
	ids := map[string]map[string]bool{}
	require.NoError(t, fs.WalkDir(os.DirFS(out), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && path.Ext(name) == ".html" {
			b, err := os.ReadFile(filepath.Join(out, name))
			require.NoError(t, err)
			pages[name], err = html.Parse(bytes.NewReader(b))
			require.NoError(t, err)
			ids[name] = map[string]bool{}
			for n := range pages[name].Descendants() {
				if id := attr(n, "id"); id != "" {
					assert.False(t, ids[name][id], "%s: two of #%s", name, id)
					ids[name][id] = true
				}
			}
		}
		return err
	}))
	sources := 0
	for _, top := range []string{"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "examples/README.md"} {
		sources++
		assert.FileExists(t, filepath.Join("../..", top))
	}
	require.NoError(t, fs.WalkDir(os.DirFS("../.."), "docs", func(name string, _ fs.DirEntry, err error) error {
		if path.Ext(name) == ".md" {
			sources++
		}
		return err
	}))
	require.GreaterOrEqual(t, len(pages), sources)
	require.Contains(t, pages, "examples/index.html")

	reached := map[string]bool{"index.html": true}
	pictures, highlighted := 0, false
	for name, page := range pages {
		for n := range page.Descendants() {
			if n.Type != html.ElementNode {
				continue
			}
			highlighted = highlighted || attr(n, "class") == "chroma"
			assert.NotContains(t, []string{"script", "iframe", "object", "embed", "base"}, n.Data, name)
			assert.NotContains(t, attr(n, "style"), "url(", name)
			if n.Data == "img" {
				pictures++
				assert.NotEmpty(t, attr(n, "alt"), "%s: %s", name, attr(n, "src"))
			}
			for _, key := range []string{"href", "src", "srcset"} {
				link := attr(n, key)
				if link == "" {
					continue
				}
				u, err := url.Parse(link)
				require.NoError(t, err, name)
				if u.Host != "" || u.Scheme != "" {
					assert.Equal(t, "a", n.Data, "%s loads %s", name, link)
					continue
				}
				to := name
				if u.Path != "" {
					to = path.Join(path.Dir(name), u.Path)
				}
				assert.False(t, path.IsAbs(u.Path) || strings.HasPrefix(to, ".."), "%s: %s leaves the site", name, link)
				info, err := os.Stat(filepath.Join(out, to))
				assert.True(t, err == nil && info.Mode().IsRegular(), "%s: there is no %s", name, link)
				if u.Fragment != "" {
					assert.True(t, ids[to][u.Fragment], "%s: there is no %s", name, link)
				}
				reached[to] = true
			}
		}
	}
	for name := range pages {
		assert.True(t, reached[name], "no link leads to %s", name)
	}
	assert.Positive(t, pictures)
	assert.True(t, highlighted)
	css, err := os.ReadFile(filepath.Join(out, "style.css"))
	require.NoError(t, err)
	for _, word := range []string{"url(", "@import"} {
		assert.NotContains(t, string(css), word)
	}
	assert.Contains(t, string(css), "prefers-color-scheme: dark")
}

// The navigation is in the order of docs/README.md.
func TestOrder(t *testing.T) {
	s, err := read("../..")
	require.NoError(t, err)
	require.Len(t, s.order, len(s.pages))
	contents, err := os.ReadFile("../../docs/README.md")
	require.NoError(t, err)
	last, seen := -1, 0
	for _, p := range s.order {
		name, ok := strings.CutPrefix(p.source, "docs/")
		if at := bytes.Index(contents, []byte("("+name+")")); ok && at >= 0 {
			assert.Greater(t, at, last, name)
			last = at
			seen++
		}
	}
	require.Greater(t, seen, 5)
}

// What a table has of figures stays together; text may be broken between its words.
func TestFigures(t *testing.T) {
	s := &site{pages: map[string]*page{}, pictures: map[string]bool{}}
	for cell, want := range map[string]string{
		"**1.18** (0.90–1.35)":   `<td class="figure"><strong>1.18</strong> (0.90–1.35)</td>`,
		"≥ 0.9":                  `<td class="figure">≥ 0.9</td>`,
		"16.2 ns":                `<td class="figure">16.2 ns</td>`,
		"rate":                   `<td class="figure">rate</td>`,
		"10 M messages a second": "<td>10 M messages a second</td>",
		"missed by 27 %":         "<td>missed by 27\u00a0%</td>",
		"17 × a pause of 5 µs when the ring is full, `5 µs`": "<td>17\u00a0× a pause of 5\u00a0µs when the ring is full, <code>5 µs</code></td>",
		"64 B, and then text that would make it wide":        "<td>64\u00a0B, and then text that would make it wide</td>",
		"a \\| b & c < 10 ms":                                "<td>a | b &amp; c &lt; 10\u00a0ms</td>",
	} {
		s.parse("page.md", []byte("text of 10 ms\n\n| a |\n|---|\n| "+cell+" |\n"))
		out, err := s.render(s.pages["page.md"])
		require.NoError(t, err)
		assert.Contains(t, string(out), want)
		assert.Contains(t, string(out), "<p>text of 10 ms</p>")
	}
}

func attr(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}
