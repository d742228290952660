package main

import (
	"regexp"
	"strings"

	"github.com/yuin/goldmark/ast"
	table "github.com/yuin/goldmark/extension/ast"
)

var (
	// figure is what begins as a number does, with a bound's sign perhaps, and is short, or a short word beside such.
	// What is longer than a ratio and its spread is text, and so is what has words in it.
	figure = regexp.MustCompile(`^(?:[≥≤<>~×−-]? ?[0-9].{0,23}|\S{1,8})$`)
	word   = regexp.MustCompile(`\pL{5}`)
	unit   = regexp.MustCompile(`([0-9]) ((?:[nµm]?s|[kM]/s|[KMG]?i?B)\b|[%×])`)
)

// markFigures gives table cells with figures a class, because those are not to be broken. Elsewhere in tables numbers
// are kept with their units.
func markFigures(p *page) {
	var texts []*ast.Text
	ast.Walk(p.tree, func(n ast.Node, entering bool) (ast.WalkStatus, error) { // the function has no errors
		if cell, ok := n.(*table.TableCell); ok && entering {
			if s := plain(cell, p.text); figure.MatchString(s) && (len(s) <= 8 || !word.MatchString(s)) {
				cell.SetAttributeString("class", []byte("figure"))
				return ast.WalkSkipChildren, nil
			}
		}
		if t, ok := n.(*ast.Text); ok && entering && within(n, table.KindTableCell) && !within(n, ast.KindCodeSpan) {
			texts = append(texts, t)
		}
		return ast.WalkContinue, nil
	})
	for _, t := range texts {
		if t.Parent() == nil { // it was joined to the one before
			continue
		}
		for next := t.NextSibling(); next != nil && t.Merge(next, p.text); next = t.NextSibling() {
			t.Parent().RemoveChild(t.Parent(), next)
		}
		if value := t.Value(p.text); unit.Match(value) {
			t.Parent().ReplaceChild(t.Parent(), t, ast.NewString(unit.ReplaceAll(value, []byte("$1\u00a0$2"))))
		}
	}
}

func within(n ast.Node, kind ast.NodeKind) bool {
	for ; n != nil; n = n.Parent() {
		if n.Kind() == kind {
			return true
		}
	}
	return false
}

// plain returns a node's text without its marks.
func plain(n ast.Node, source []byte) string {
	var b strings.Builder
	ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if t, ok := n.(*ast.Text); ok && entering {
			b.Write(t.Value(source))
		}
		return ast.WalkContinue, nil
	})
	return strings.TrimSpace(b.String())
}
