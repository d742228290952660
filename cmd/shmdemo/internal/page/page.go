// Package page writes the result of a run as one page to look at: HTML with its style, its drawings and its few lines of script
// within it, and nothing that would have to be fetched. Without the script the page is complete.
//
//	page.go    what a page consists of, and how it is written
//	page.html  its form
//	style.css  light, dark, on paper, and on a telephone
//	hover.js   says what is at the pointer
//	stress.go  the page of a stress run
//	charts.go  its curves over time
//	seats.go   who sat where, and when
//	bars.go    how often what took how long
//	soak.go    the page of a soak
package page

import (
	"bytes"
	_ "embed"
	"html/template"
	"io"
)

// Asked is what the run was asked for, and when.
type Asked struct {
	Command     string // that asks for the same again
	Options     []Row
	When        string
	Interrupted bool // by a signal
}

// Row is a name and what it stands for.
type Row struct{ Name, Value string }

// page is what the form shows.
type page struct {
	Title      string
	OK         bool
	Sentence   string // the verdict's
	Violations []string
	Tiles      []tile
	Asked      Asked
	Machine    string
	Sections   []section
}

// tile is a figure that one looks at first.
type tile struct{ ID, Name, Value, Note string }

type section struct {
	Title   string
	Intro   string
	Legend  []key
	Figures []figure
	Tables  []table
	Many    bool // figures, which are small
	Time    bool // the figures are over the same time, that of the first table
}

// figure is a drawing, with what it says in words. Wide ones have their names at the right.
type figure struct {
	ID, Title, Note string
	Key             []key
	SVG             template.HTML // by package picture, which escapes
	Wide            bool
	Bare            bool // needs no room at the left
}

// key explains a class of line or mark.
type key struct{ Class, Text string }

// table has a row for each thing, whose name is in its first column. Text are the numbers of the columns that are not figures.
type table struct {
	ID, Title string
	Note      string
	List      []string
	Head      []string
	Rows      [][]string
	At        []int64 // of each row, its end, in milliseconds; nil: the rows have no time
	Long      bool    // shown when asked for
	Words     bool    // the last column is text
}

//go:embed page.html
var form string

//go:embed style.css
var style string

//go:embed hover.js
var script string

var forms = template.Must(template.New("page").Funcs(template.FuncMap{
	"style":  func() template.CSS { return template.CSS(style) },
	"script": func() template.JS { return template.JS(script) },
	"at": func(t table, i int) int64 {
		if i < len(t.At) {
			return t.At[i]
		}
		return 0
	},
}).Parse(form))

func (p *page) write(w io.Writer) error {
	var out bytes.Buffer
	if err := forms.Execute(&out, p); err != nil {
		return err
	}
	_, err := out.WriteTo(w)
	return err
}
