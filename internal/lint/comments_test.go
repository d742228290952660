package lint

import (
	"go/ast"
	"go/build"
	"go/doc"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The packages that people import; their comments are the reference.
var documented = []string{"bench", "ring", "router", "sender", "shm"}

// Methods of the standard library's interfaces: a reader knows when they fail.
var standard = []string{
	"Error", "String", "Unwrap", "Is", "As", "Err", "LogValue", "GoString", "Format", "Set",
	"MarshalJSON", "UnmarshalJSON", "MarshalText", "UnmarshalText", "MarshalBinary", "UnmarshalBinary", "AppendText", "AppendBinary",
}

var (
	namesError   = regexp.MustCompile(`(?i)\berrors?\b|\b[Ee]rr[A-Z]\w*|\w+Error\b|\bio\.EOF\b|\bcontext\.(Canceled|DeadlineExceeded)\b`)
	ofGoroutines = regexp.MustCompile(`(?i)\bconcurren|\bgoroutines?\b`)
)

// go doc is the manual: every exported name has a comment that begins with it, functions say which errors there
// are, and types who may use them at the same time.
func TestDocComments(t *testing.T) {
	dirs := map[string]bool{}
	eachFile(t, func(path string) {
		dir := filepath.ToSlash(filepath.Dir(path))
		top, _, _ := strings.Cut(dir, "/")
		if slices.Contains(documented, top) && !strings.HasSuffix(path, "_test.go") && !strings.Contains(dir, "internal/") {
			dirs[dir] = true
		}
	})
	for _, dir := range []string{"ring", "router", "router/slogrouter", "sender", "sender/codec", "sender/slogsender", "shm", "bench"} {
		require.True(t, dirs[dir], dir)
	}
	names := 0
	for dir := range dirs {
		c := comments{t: t, dir: dir, fset: token.NewFileSet()}
		c.check(c.parse())
		names += c.names
	}
	require.Greater(t, names, 300, "the comments were looked at")
}

type comments struct {
	t     *testing.T
	dir   string
	fset  *token.FileSet
	pkg   string
	names int
}

func (c *comments) parse() *doc.Package {
	dir := filepath.Join(root(c.t), c.dir)
	entries, err := os.ReadDir(dir)
	require.NoError(c.t, err)
	var files []*ast.File
	for _, e := range entries {
		built, err := build.Default.MatchFile(dir, e.Name())
		require.NoError(c.t, err)
		if !built || !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(c.fset, filepath.Join(dir, e.Name()), nil, parser.ParseComments)
		require.NoError(c.t, err)
		files = append(files, f)
	}
	p, err := doc.NewFromFiles(c.fset, files, module+c.dir, doc.PreserveAST)
	require.NoError(c.t, err)
	return p
}

func (c *comments) check(p *doc.Package) {
	c.pkg = p.Doc
	assert.True(c.t, strings.HasPrefix(p.Doc, "Package "+p.Name+" ") || p.Name == "main" && p.Doc != "", "%s: no package comment", c.dir)
	c.values(p.Consts)
	c.values(p.Vars)
	c.funcs(p.Funcs)
	for _, typ := range p.Types {
		c.starts(typ.Decl.Pos(), typ.Name, typ.Doc)
		c.values(typ.Consts)
		c.values(typ.Vars)
		c.funcs(typ.Funcs)
		c.funcs(typ.Methods)
		c.concurrency(typ)
		for _, s := range typ.Decl.Specs {
			switch u := s.(*ast.TypeSpec).Type.(type) {
			case *ast.StructType:
				c.fields(typ.Name, u.Fields)
			case *ast.InterfaceType:
				c.fields(typ.Name, u.Methods)
			}
		}
	}
}

// starts wants the comment of a name to begin with it, behind an article at most.
func (c *comments) starts(pos token.Pos, name, text string) {
	c.names++
	words := strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" ,.:;()\n", r) })
	if len(words) > 1 && slices.Contains([]string{"A", "An", "The"}, words[0]) {
		words = words[1:]
	}
	if len(words) == 0 {
		c.fail(pos, "%s has no comment", name)
	} else if words[0] != name {
		c.fail(pos, "the comment of %s begins with %q", name, words[0])
	}
}

// values wants a comment at each of them, in the line or above, or one above the group. Errors have their own.
func (c *comments) values(vs []*doc.Value) {
	for _, v := range vs {
		for _, s := range v.Decl.Specs {
			s := s.(*ast.ValueSpec)
			for _, n := range s.Names {
				c.names++
				grouped := v.Decl.Lparen.IsValid() && strings.HasPrefix(n.Name, "Err")
				if n.IsExported() && text(s.Doc)+text(s.Comment) == "" && (grouped || text(v.Decl.Doc) == "") {
					c.fail(n.Pos(), "%s has no comment, nor has its group", n.Name)
				}
			}
			if len(v.Decl.Specs) == 1 && len(s.Names) == 1 && s.Names[0].IsExported() && !v.Decl.Lparen.IsValid() {
				c.starts(s.Pos(), s.Names[0].Name, text(v.Decl.Doc)+text(s.Comment))
			}
		}
	}
}

func (c *comments) funcs(fs []*doc.Func) {
	for _, f := range fs {
		if !token.IsExported(f.Name) || f.Level > 0 {
			continue // promoted from an embedded type, which has the comment
		}
		c.starts(f.Decl.Pos(), f.Name, f.Doc)
		if results := f.Decl.Type.Results; results != nil && !slices.Contains(standard, f.Name) {
			for _, r := range results.List {
				if id, ok := r.Type.(*ast.Ident); ok && id.Name == "error" && !namesError.MatchString(f.Doc) {
					c.fail(f.Decl.Pos(), "%s returns an error, and its comment says nothing of which", f.Name)
				}
			}
		}
	}
}

// concurrency wants types with state, which is those with pointer methods, to say who may use them at once.
func (c *comments) concurrency(typ *doc.Type) {
	pointer := slices.ContainsFunc(typ.Methods, func(m *doc.Func) bool {
		return strings.HasPrefix(m.Recv, "*") && !slices.Contains(standard, m.Name)
	})
	if !pointer || ofGoroutines.MatchString(typ.Doc) {
		return
	}
	for paragraph := range strings.SplitSeq(c.pkg, "\n\n") {
		if ofGoroutines.MatchString(paragraph) && strings.Contains(paragraph, typ.Name) {
			return
		}
	}
	c.fail(typ.Decl.Pos(), "%s does not say whether goroutines may use it concurrently", typ.Name)
}

// fields wants a comment at each exported field or method, in the line, above it, or above its group of lines.
func (c *comments) fields(of string, list *ast.FieldList) {
	group, last := false, 0
	for _, f := range list.List {
		first := c.fset.Position(f.Pos()).Line
		if f.Doc != nil {
			first = c.fset.Position(f.Doc.Pos()).Line
		}
		group = f.Doc != nil || group && first == last+1
		last = c.fset.Position(f.End()).Line
		for _, n := range f.Names {
			c.names++
			if n.IsExported() && !group && text(f.Comment) == "" {
				c.fail(n.Pos(), "%s.%s has no comment", of, n.Name)
			}
		}
	}
}

func text(g *ast.CommentGroup) string {
	if g == nil {
		return ""
	}
	return g.Text()
}

func (c *comments) fail(pos token.Pos, format string, args ...any) {
	p := c.fset.Position(pos)
	rel, err := filepath.Rel(root(c.t), p.Filename)
	require.NoError(c.t, err)
	c.t.Errorf("%s:%d: "+format, append([]any{rel, p.Line}, args...)...)
}
