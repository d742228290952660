package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/alecthomas/chroma/v2/formatters/html"
	"github.com/yuin/goldmark"
	highlighting "github.com/yuin/goldmark-highlighting/v2"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	renderer "github.com/yuin/goldmark/renderer/html"
	"github.com/yuin/goldmark/text"
)

// sources is where links lead that the site has no page for.
const sources = "https://github.com/shmrouter/shmrouter/tree/main/"

var markdown = goldmark.New(
	goldmark.WithExtensions(extension.GFM, highlighting.NewHighlighting(
		highlighting.WithFormatOptions(html.WithClasses(true)))),
	goldmark.WithParserOptions(parser.WithAutoHeadingID()),
	goldmark.WithRendererOptions(renderer.WithUnsafe()), // they are our own pages
)

type site struct {
	repository string
	pages      map[string]*page // by source
	order      []*page
	pictures   map[string]bool // that pages show
}

type page struct {
	source, target string // from the root of the repository, and of the site
	text           []byte
	tree           ast.Node
	Title, Short   string // the latter in the navigation
	Group          string // the heading above it there
	Deep           bool   // one of a folder's pages
	Sections       []section
}

type section struct{ Title, ID string }

// Href leads from the page to another, also where both are in a folder and not on a server.
func (p *page) Href(to *page) string { return p.Root() + to.target }

// Root leads to the top of the site.
func (p *page) Root() string { return strings.Repeat("../", strings.Count(p.target, "/")) }

func read(repository string) (*site, error) {
	s := &site{repository: repository, pages: map[string]*page{}, pictures: map[string]bool{}}
	folders := map[string][]string{}
	for _, pattern := range []string{"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "examples/README.md", "docs/*.md", "docs/*/*.md"} {
		names, _ := fs.Glob(os.DirFS(repository), pattern) // the patterns are well-formed
		for _, name := range names {
			source, err := os.ReadFile(filepath.Join(repository, name))
			if err != nil {
				return nil, err
			}
			s.parse(name, source)
			folders[path.Dir(name)] = append(folders[path.Dir(name)], name)
		}
	}
	for dir, names := range folders { // one without a README gets a list of its pages
		if readme := path.Join(dir, "README.md"); s.pages[readme] == nil {
			list := []byte("# " + strings.ToUpper(path.Base(dir)[:1]) + path.Base(dir)[1:] + "\n\n")
			for _, name := range names {
				list = fmt.Appendf(list, "- [%s](%s)\n", s.pages[name].Title, path.Base(name))
			}
			s.parse(readme, list)
		}
	}
	if s.pages["README.md"] == nil || s.pages["docs/README.md"] == nil {
		return nil, fmt.Errorf("%s: not the repository", repository)
	}
	s.arrange()
	return s, nil
}

func (s *site) parse(name string, source []byte) {
	p := &page{source: name, target: strings.TrimSuffix(name, ".md") + ".html", text: source}
	if path.Base(name) == "README.md" {
		p.target = path.Join(path.Dir(name), "index.html")
	}
	p.tree = markdown.Parser().Parse(text.NewReader(source), parser.WithContext(parser.NewContext(parser.WithIDs(&ids{}))))
	for n := p.tree.FirstChild(); n != nil; n = n.NextSibling() {
		h, ok := n.(*ast.Heading)
		if !ok {
			continue
		}
		title := strings.ReplaceAll(string(h.Lines().Value(source)), "`", "")
		if h.Level == 1 && p.Title == "" {
			p.Title = title
			p.Short, _, _ = strings.Cut(title, ":")
		} else if id, _ := h.AttributeString("id"); h.Level == 2 {
			p.Sections = append(p.Sections, section{title, string(id.([]byte))})
		}
	}
	markFigures(p)
	s.pages[name] = p
}

var contents = regexp.MustCompile(`(?m)^## (.+)$|\]\(([^)#:]+)`)

// arrange puts the pages into the order in which docs/README.md links to them, under its headings. Those that it
// does not name stand behind their folder's.
func (s *site) arrange() {
	add := func(p *page, group string, at int) {
		if p == nil || slices.Contains(s.order, p) {
			return
		}
		p.Group = group
		if slices.ContainsFunc(s.order, func(q *page) bool { return q.Short == p.Short }) {
			p.Short = p.Title
		}
		s.order = slices.Insert(s.order, at, p)
	}
	add(s.pages["README.md"], "", 0)
	add(s.pages["docs/README.md"], "", 1)
	group := ""
	for _, m := range contents.FindAllStringSubmatch(string(s.pages["docs/README.md"].text), -1) {
		if m[1] != "" {
			group = m[1]
		} else if p := s.find(path.Join("docs", m[2])); p != nil && path.Dir(p.source) != "." {
			add(p, group, len(s.order))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.pages)) {
		folder := slices.Index(s.order, s.pages[path.Join(path.Dir(name), "README.md")])
		if path.Dir(name) == "." || path.Dir(name) == "docs" || folder < 0 {
			add(s.pages[name], "Project", len(s.order))
		} else if p := s.pages[name]; !slices.Contains(s.order, p) {
			p.Deep = true
			for folder++; folder < len(s.order) && path.Dir(s.order[folder].source) == path.Dir(name); {
				folder++
			}
			add(p, s.order[folder-1].Group, folder)
		}
	}
}

// find returns the page of a file, or of a folder.
func (s *site) find(name string) *page {
	if p := s.pages[name]; p != nil {
		return p
	}
	return s.pages[path.Join(name, "README.md")]
}

var attribute = regexp.MustCompile(`\b(href|src|srcset)="([^"]*)"`)

func (s *site) render(p *page) ([]byte, error) {
	var b bytes.Buffer
	err := markdown.Renderer().Render(&b, p.text, p.tree)
	return attribute.ReplaceAllFunc(b.Bytes(), func(m []byte) []byte {
		part := attribute.FindSubmatch(m)
		to, wrong := s.destination(p, string(part[2]))
		if wrong != nil {
			err = wrong
		}
		return fmt.Appendf(nil, `%s="%s"`, part[1], to)
	}), err
}

// destination is where a link of the page leads in the site.
func (s *site) destination(from *page, link string) (string, error) {
	u, err := url.Parse(link)
	if err != nil || u.Scheme != "" || u.Path == "" {
		return link, err
	}
	name := path.Join(path.Dir(from.source), u.Path)
	if to := s.find(name); to != nil {
		u.Path = from.Href(to)
		return u.String(), nil
	}
	if slices.Contains([]string{".svg", ".png", ".jpg", ".gif", ".webp"}, path.Ext(name)) {
		s.pictures[name] = true
		return from.Root() + name, nil
	}
	_, err = os.Stat(filepath.Join(s.repository, name))
	return sources + name, err
}

// ids gives headings the names that GitHub gives them.
type ids struct{ used []string }

func (i *ids) Generate(value []byte, _ ast.NodeKind) []byte {
	base := strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			return unicode.ToLower(r)
		}
		return -1
	}, strings.TrimSpace(string(value)))
	id := base
	for n := 1; slices.Contains(i.used, id); n++ {
		id = fmt.Sprint(base, "-", n)
	}
	i.used = append(i.used, id)
	return []byte(id)
}

func (i *ids) Put(id []byte) { i.used = append(i.used, string(id)) }
