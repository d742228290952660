package model

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The static half of the tie between ring and model. skeleton reads the ring's source and writes down, function by function,
// each access to shared memory and each question to the kernel, in the order of evaluation, with the control flow and the
// assignments around it. testdata/ring.txt holds the same with a step of the model behind each access, or the reason why
// there is none. So who changes an order, an operand or a condition in ring has to say here what the model makes of it.

// sharedWords are the fields of the ring's view and entry, by the model's name.
var sharedWords = map[string]string{
	"hint": "hint", "turn": "turn", "head": "head", "sleep": "sleep", "roomWaiters": "waiters", "roomEpisode": "episode",
	"word": "word", "info": "info", "fence": "fence",
}

// privateWords are atomic words of one process.
var privateWords = []string{"closed", "producers", "open", "pos", "polled", "freed", "interrupted", "waiting", "awake", "orphaned", "telling"}

var atomicOps = map[string]string{"Load": "load", "Store": "store", "CompareAndSwap": "cas", "Swap": "swap", "Add": "add"}

// notRead are files without shared accesses of their own, or with those that view's methods hide.
var notRead = []string{"view_unsafe.go", "relaxed_unsafe.go", "relaxed_race_unsafe.go", "release.go", "release_unsafe.go"}

// unfollowed are methods named like one with shared accesses.
var unfollowed = []string{"load", "cas", "Close", "Bytes"}

type skeleton struct {
	fset   *token.FileSet
	funcs  map[string]*ast.FuncDecl
	follow map[string]bool // functions that touch shared memory, by their bare name
	lines  []string
	indent int
	errs   []string
}

func readRing(t *testing.T) *skeleton {
	t.Helper()
	x := &skeleton{fset: token.NewFileSet(), funcs: map[string]*ast.FuncDecl{}, follow: map[string]bool{}}
	files, err := filepath.Glob("../../ring/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal("no sources of the ring: ", err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		if strings.HasSuffix(name, "_test.go") || slices.Contains(notRead, name) {
			continue
		}
		f, err := parser.ParseFile(x.fset, file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				x.funcs[funcName(fn)] = fn
			}
		}
	}
	for grown := true; grown; {
		grown = false
		for _, fn := range x.funcs {
			if bare := fn.Name.Name; !x.follow[bare] && !slices.Contains(unfollowed, bare) && x.touches(fn.Body) {
				x.follow[bare], grown = true, true
			}
		}
	}
	return x
}

func funcName(fn *ast.FuncDecl) string {
	if fn.Recv == nil {
		return fn.Name.Name
	}
	recv := fn.Recv.List[0].Type
	if star, ok := recv.(*ast.StarExpr); ok {
		recv = star.X
	}
	return recv.(*ast.Ident).Name + "." + fn.Name.Name
}

// touches says whether something in n is an access, or a call of a function that makes some.
func (x *skeleton) touches(n ast.Node) bool {
	found := false
	ast.Inspect(n, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			a, _ := x.access(call)
			found = found || a != access{} || x.follow[last(call.Fun)]
		}
		return !found
	})
	return found
}

// access classifies a call. known is false for the method of an atomic word that nobody has named above.
func (x *skeleton) access(call *ast.CallExpr) (a access, known bool) {
	sel, _ := call.Fun.(*ast.SelectorExpr)
	if sel == nil {
		if id, ok := call.Fun.(*ast.Ident); ok && (id.Name == "storeRelaxed" || id.Name == "storeRelease") {
			return x.named("plain", call.Args[0])
		}
		if id, ok := call.Fun.(*ast.Ident); ok && id.Name == "fn" {
			return access{"load", "payload"}, true
		}
		return access{}, true
	}
	on := last(sel.X)
	switch sel.Sel.Name {
	case "FutexWait":
		return x.named("wait", call.Args[0])
	case "FutexWake":
		return x.named("wake", call.Args[0])
	case "Barrier":
		return access{"membarrier", "buffers"}, true
	case "Held":
		return access{"ask", "lock"}, true
	case "TryLock":
		return access{"take", "lock"}, true
	case "Close":
		if on == "locks" {
			return access{"unlock", "lock"}, true
		}
	case "load":
		if on != "n" && on != "counts" {
			return access{"load", "word"}, true
		}
	case "cas":
		return access{"cas", "word"}, true
	case "bytes":
		return access{"at", "payload"}, true
	}
	if op := atomicOps[sel.Sel.Name]; op != "" {
		return x.named(op, sel.X)
	}
	return access{}, true
}

// named finds out which word e is.
func (x *skeleton) named(op string, e ast.Expr) (access, bool) {
	if u, ok := e.(*ast.UnaryExpr); ok {
		e = u.X
	}
	if call, ok := e.(*ast.CallExpr); ok {
		switch last(call.Fun) {
		case "slotWord", "slotHalf", "Word64", "Word32":
			word := x.text(call.Args[0])
			word = strings.ToLower(word[strings.LastIndexAny(word, " +")+1:])
			return access{op, strings.TrimPrefix(word, "slot")}, true
		case "doorbellWord":
			return access{op, "word"}, true
		}
	}
	name := last(e)
	if word := sharedWords[name]; word != "" {
		return access{op, word}, true
	}
	if name == "w" && op == "wake" { // wakeWhenDone's parameter
		return access{op, "episode"}, true
	}
	return access{}, slices.Contains(privateWords, name)
}

// last is the last name of a selector, call or identifier.
func last(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	case *ast.CallExpr:
		return last(e.Fun)
	case *ast.IndexExpr:
		return last(e.X)
	case *ast.ParenExpr:
		return last(e.X)
	}
	return ""
}

func (x *skeleton) emit(format string, args ...any) {
	x.lines = append(x.lines, strings.Repeat("  ", x.indent)+fmt.Sprintf(format, args...))
}

// text prints code on one line; what functions within it do comes below.
func (x *skeleton) text(n any) string {
	var b bytes.Buffer
	printer.Fprint(&b, x.fset, n)
	s := b.String()
	if node, ok := n.(ast.Node); ok {
		ast.Inspect(node, func(n ast.Node) bool {
			if lit, ok := n.(*ast.FuncLit); ok {
				var body bytes.Buffer
				printer.Fprint(&body, x.fset, lit)
				s = strings.Replace(s, body.String(), "func", 1)
				if i, j := strings.Index(s, "func("), strings.LastIndex(s, "}"); i >= 0 && j > i {
					s = s[:i] + "func" + s[j+1:]
				}
				return false
			}
			return true
		})
	}
	return strings.Join(strings.Fields(s), " ")
}

// expr writes the accesses of an expression, in the order of evaluation, and the bodies of its functions.
func (x *skeleton) expr(n ast.Node) {
	if n == nil {
		return
	}
	x.indent++
	defer func() { x.indent-- }()
	var walk func(n ast.Node)
	walk = func(n ast.Node) {
		ast.Inspect(n, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncLit:
				if x.touches(n.Body) {
					x.emit("func")
					x.block(n.Body.List)
				}
				return false
			case *ast.CallExpr:
				walk(n.Fun)
				for _, arg := range n.Args {
					walk(arg)
				}
				a, known := x.access(n)
				switch {
				case !known:
					x.errs = append(x.errs, fmt.Sprintf("%s: %s: neither a shared word nor a private one that is known",
						x.fset.Position(n.Pos()), x.text(n)))
				case a != access{}:
					x.emit("* %v", a)
				case x.follow[last(n.Fun)]:
					x.emit("> %s", last(n.Fun))
				}
				return false
			}
			return true
		})
	}
	walk(n)
}

func (x *skeleton) block(list []ast.Stmt) {
	x.indent++
	for _, s := range list {
		x.stmt(s)
	}
	x.indent--
}

func (x *skeleton) stmt(s ast.Stmt) {
	switch s := s.(type) {
	case *ast.IfStmt:
		x.head("if", s.Init, s.Cond)
		x.block(s.Body.List)
		if s.Else != nil {
			x.emit("else")
			x.block([]ast.Stmt{s.Else})
		}
	case *ast.BlockStmt:
		for _, s := range s.List {
			x.stmt(s)
		}
	case *ast.ForStmt:
		x.head("for", s.Init, s.Cond)
		x.block(s.Body.List)
		if s.Post != nil {
			x.stmt(s.Post)
		}
	case *ast.RangeStmt:
		vars := ""
		if s.Key != nil {
			vars = x.text(s.Key)
		}
		if s.Value != nil {
			vars += ", " + x.text(s.Value)
		}
		x.emit("for %s range %s", vars, x.text(s.X))
		x.expr(s.X)
		x.block(s.Body.List)
	case *ast.SwitchStmt:
		x.head("switch", s.Init, s.Tag)
		for _, c := range s.Body.List {
			c := c.(*ast.CaseClause)
			if c.List == nil {
				x.emit("default")
			}
			for _, e := range c.List {
				x.emit("case %s", x.text(e))
				x.expr(e)
			}
			x.block(c.Body)
		}
	default:
		x.emit("%s", x.text(s))
		x.expr(s)
	}
}

func (x *skeleton) head(word string, init ast.Stmt, cond ast.Expr) {
	line := word
	if init != nil {
		line += " " + x.text(init) + ";"
	}
	if cond != nil {
		line += " " + x.text(cond)
	}
	x.emit("%s", line)
	if init != nil {
		x.expr(init)
	}
	if cond != nil {
		x.expr(cond)
	}
}

// function is the skeleton of one function, nil if it touches nothing.
func (x *skeleton) function(fn *ast.FuncDecl) []string {
	if fn.Body == nil || !x.touches(fn.Body) {
		return nil
	}
	x.lines = nil
	x.block(fn.Body.List)
	return x.lines
}

// arrow stands before the steps that play an access, or before "-" and the reason why none does.
const arrow = " -> "

type row struct{ text, steps string }

// ringRows reads testdata/ring.txt.
func ringRows(t *testing.T) map[string][]row {
	t.Helper()
	b, err := os.ReadFile("testdata/ring.txt")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][]row{}
	name := ""
	for line := range strings.Lines(string(b)) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "#") || line == "":
		case !strings.HasPrefix(line, " "):
			name = line
			rows[name] = []row{}
		default:
			text, steps := line, ""
			if strings.HasPrefix(strings.TrimSpace(line), "*") {
				text, steps, _ = strings.Cut(line, arrow)
			}
			rows[name] = append(rows[name], row{text, steps})
		}
	}
	return rows
}

// TestRingIsModelled compares the ring's source with what the model was made from.
func TestRingIsModelled(t *testing.T) {
	x := readRing(t)
	rows := ringRows(t)
	var all strings.Builder
	for _, name := range slices.Sorted(maps.Keys(x.funcs)) {
		lines := x.function(x.funcs[name])
		if lines == nil {
			continue
		}
		fmt.Fprintf(&all, "%s\n%s\n\n", name, strings.Join(lines, "\n"))
		known, ok := rows[name]
		delete(rows, name)
		switch {
		case !ok:
			t.Errorf("ring.%s touches shared memory and is not in testdata/ring.txt:\n%s", name, strings.Join(lines, "\n"))
			continue
		case len(known) == 1 && strings.HasPrefix(strings.TrimSpace(known[0].text), "- "):
			continue // whole function, with a reason
		}
		for k := range max(len(lines), len(known)) {
			var is, was string
			if k < len(lines) {
				is = lines[k]
			}
			if k < len(known) {
				was = known[k].text
			}
			if is != was {
				t.Errorf("ring.%s is not what the model plays. Where testdata/ring.txt has\n%s\nthe source has\n%s\n"+
					"Change the model first, then the row. The function now:\n%s", name, was, is, strings.Join(lines, "\n"))
				break
			}
		}
	}
	for name := range rows {
		t.Errorf("ring.%s is in testdata/ring.txt, and touches no shared memory any more", name)
	}
	for _, e := range x.errs {
		t.Error(e)
	}
	if os.Getenv("SHMROUTER_SKELETON") != "" {
		os.WriteFile(os.Getenv("SHMROUTER_SKELETON"), []byte(all.String()), 0o644)
	}
}

// unplayed are steps that no line of the ring makes.
var unplayed = []string{
	"pcDone", "pcDead", "pcJoin", "pcAsleep", "csAsleep", "asIdle", "rdIdle", // no access
	"pcHeader", "csReload", // of mutants
}

// TestStepsAreTheRings holds the model's steps to the ring's accesses: each access in testdata/ring.txt is played by steps
// that do the same to the same word, or has a reason why not; and each step plays one.
func TestStepsAreTheRings(t *testing.T) {
	steps := stepsByName(t)
	played := map[string]bool{}
	for name, rows := range ringRows(t) {
		for _, r := range rows {
			text := strings.TrimSpace(r.text)
			does, isAccess := strings.CutPrefix(text, "* ")
			switch {
			case !isAccess:
				continue
			case r.steps == "":
				t.Errorf("ring.%s: %q has neither a step nor a reason", name, does)
				continue
			case strings.HasPrefix(r.steps, "- "):
				continue
			}
			for _, step := range strings.Fields(r.steps) {
				a, ok := steps[step]
				if !ok {
					t.Errorf("ring.%s: no step %s", name, step)
				}
				played[step] = true
				if strings.HasSuffix(does, " info") || does == "at payload" { // info counts as payload, and bytes only tells where it is
					does = a.op + " payload"
				}
				if does != a.String() {
					t.Errorf("ring.%s does %q, which %s plays by %q", name, does, step, a)
				}
			}
		}
	}
	for step := range steps {
		if played[step] == slices.Contains(unplayed, step) {
			t.Errorf("%s: plays something of the ring: %v", step, played[step])
		}
	}
}

// stepsByName reads the constants of steps.go.
func stepsByName(t *testing.T) map[string]access {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "steps.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	tables := map[string][]access{"pc": claimantSteps[:], "cs": consumerSteps[:], "as": askerSteps[:], "rd": readerSteps[:]}
	steps := map[string]access{}
	for _, d := range f.Decls {
		if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.CONST {
			for k, spec := range g.Specs {
				name := spec.(*ast.ValueSpec).Names[0].Name
				steps[name] = tables[name[:2]][k]
			}
		}
	}
	return steps
}

// TestStepsTouchOneWord explores a little of each configuration, and sees that each step changes at most the word that it
// names, and that what a claimant learns by a load depends on no other word.
func TestStepsTouchOneWord(t *testing.T) {
	for _, c := range configurations {
		if c.Kills+c.Rebirths+c.Crashes > 2 || c.Buffers > 0 {
			continue // a buffer drains within other steps
		}
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			m, left := newModel(c), 15_000
			seen := map[state]bool{}
			work := []state{m.begin()}
			for ; len(work) > 0 && left > 0; left-- {
				s := work[len(work)-1]
				work = work[:len(work)-1]
				m.successors(&s, func(n *state, how transition) {
					if how.kind == step && how.what != (access{"late", "store"}) {
						if words := changed(&s, n); len(words) > 1 || len(words) == 1 && (how.what.op == "load" || how.what.word != words[0]) {
							t.Fatalf("%v changes %v", how, words)
						}
					}
					if !seen[*n] {
						seen[*n] = true
						work = append(work, *n)
					}
				})
				for i := range m.Scripts {
					if a := claimantSteps[s.claimants[i].pc]; a.op == "load" {
						m.readsOnly(t, &s, i, a.word)
					}
				}
			}
		})
	}
}

// readsOnly repeats claimant i's step with every other word spoilt.
func (m *model) readsOnly(t *testing.T, s *state, i int, name string) {
	right := *s
	m.stepClaimant(&right, i)
	for other, spoil := range map[string]func(*state){
		"word": func(s *state) { s.table = [H]word{} }, "payload": func(s *state) { s.cells = [H]uint8{} },
		"hint": func(s *state) { s.hint += H }, "head": func(s *state) { s.head += H }, "sleep": func(s *state) { s.sleep.pos++; s.sleep.mode ^= 1 },
		"waiters": func(s *state) { s.roomWaiters ^= 1 }, "turn": func(s *state) { s.turn ^= 1 },
		"instance": func(s *state) { s.instance[m.slot(i)]++ }, "pid": func(s *state) { s.pid[m.slot(i)]++ },
	} {
		if other == name {
			continue
		}
		spoilt := *s
		spoil(&spoilt)
		m.stepClaimant(&spoilt, i)
		if spoilt.claimants[i] != right.claimants[i] {
			t.Fatalf("claimant %d: load %s depends on %s", i, name, other)
		}
		m.fault = nil
	}
}

// changed names the shared words in which two states differ. The episode of a room is in those who have loaded it.
func changed(s, n *state) (words []string) {
	for word, differs := range map[string]bool{
		"word": s.table != n.table, "payload": s.cells != n.cells, "hint": s.hint != n.hint, "head": s.head != n.head,
		"sleep": s.sleep != n.sleep, "waiters": s.roomWaiters != n.roomWaiters, "turn": s.turn != n.turn,
		"lock": s.locked&7 != n.locked&7, "instance": s.instance != n.instance, "pid": s.pid != n.pid,
	} {
		if differs {
			words = append(words, word)
		}
	}
	return words
}
