// Command site writes the documentation as static pages, for reading in a browser without a network:
//
//	cd tools/site && go run . -out DIR
//
// The pages are README.md, CHANGELOG.md, CONTRIBUTING.md, SECURITY.md, examples/README.md and all of docs/, in the
// order of docs/README.md. They need no script and load nothing from elsewhere; links to sources lead to the repository.
package main

import (
	"bytes"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"html/template"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/alecthomas/chroma/v2/formatters/html"
	"github.com/alecthomas/chroma/v2/styles"
)

//go:embed page.html
var pageSource string

//go:embed style.css
var styleSource []byte

var pageTemplate = template.Must(template.New("page").Parse(pageSource))

func main() {
	out := flag.String("out", "", "folder to write to; pages that are there already are written over")
	flag.Parse()
	if *out == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := build(filepath.Join("..", ".."), *out); err != nil {
		fmt.Fprintln(os.Stderr, "site:", err)
		os.Exit(1)
	}
	fmt.Println(filepath.Join(*out, "index.html"))
}

// build writes the whole site of the repository.
func build(repository, out string) error {
	s, err := read(repository)
	if err != nil {
		return err
	}
	files := map[string][]byte{"style.css": stylesheet()}
	for i, p := range s.order {
		body, err := s.render(p)
		if err != nil {
			return fmt.Errorf("%s: %w", p.source, err)
		}
		var b bytes.Buffer
		if err := pageTemplate.Execute(&b, s.view(i, body)); err != nil {
			return err
		}
		files[p.target] = b.Bytes()
	}
	for name := range s.pictures {
		if files[name], err = os.ReadFile(filepath.Join(repository, name)); err != nil {
			return err
		}
	}
	for name, content := range files {
		err = errors.Join(err, os.MkdirAll(filepath.Join(out, path.Dir(name)), 0o755), os.WriteFile(filepath.Join(out, name), content, 0o644))
	}
	return err
}

// stylesheet is the site's own behind that of the highlighted code, which is a light and a dark one.
func stylesheet() []byte {
	var b bytes.Buffer
	format := html.New(html.WithClasses(true))
	for _, c := range []struct{ media, style string }{
		{"print, screen and (prefers-color-scheme: light)", "github"},
		{"screen and (prefers-color-scheme: dark)", "github-dark"},
	} {
		fmt.Fprintf(&b, "@media %s {\n", c.media)
		format.WriteCSS(&b, styles.Get(c.style)) // a buffer takes everything
		b.WriteString("}\n")
	}
	b.Write(styleSource)
	return b.Bytes()
}

// view is what the template shows of a page.
type view struct {
	*page
	Body           template.HTML
	Nav            []*page // of the pages in a folder only those beside this one
	Self           *page
	Previous, Next []*page // one, or none at the ends
}

func (s *site) view(i int, body []byte) view {
	p := s.order[i]
	nav := slices.DeleteFunc(slices.Clone(s.order), func(q *page) bool { return q.Deep && path.Dir(q.source) != path.Dir(p.source) })
	return view{p, template.HTML(body), nav, p, s.order[max(0, i-1):i], s.order[i+1 : min(i+2, len(s.order))]}
}
