package model

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// The dynamic half of the tie. The ring's own code is built at the model's scale, with a hook before each access to a word
// that the model has, and played step by step beside the model: see against_test.go. What is built is a rewritten
// copy; the ring knows nothing of it.

// scaled are the constants in which the ring differs from the model, as they stand in the source and as they are played.
var scaled = map[string][][2]string{
	"layout.go":      {{"MinCapacity = 64 << 10", "MinCapacity = 256"}, {"hintStride = 16", "hintStride = 2"}},
	"view_unsafe.go": {{"min(h/8, maxGranules)", "min(h, maxGranules)"}, {"v.entry(pos).word.Load()", `at("load word", &v.entry(pos).word).Load()`}, {"v.entry(pos).word.CompareAndSwap(", `at("cas word", &v.entry(pos).word).CompareAndSwap(`}},
	"format.go":      {{"g.userOff = g.dataOff + g.capacity", "g.userOff = (g.dataOff + g.capacity + pageSize - 1) &^ (pageSize - 1)"}},
	"search.go":      {{"limit -= p.size / 4", "limit -= p.size / 2"}},
	"fence.go":       {{"!shm.BarriersJoined()", "!Hooks.Joined"}, {"import \"github.com/shmrouter/shmrouter/shm\"", ""}},
	"room.go":        {{"largeFraction = 16", "largeFraction = 2"}, {"patientTries  = 3", "patientTries = 1 << 30"}, {"shm.CanSpin()", "false"}},
	"admission.go":   {{"c.size-c.size/4", "c.size-c.size/2"}},
	"poll.go":        {{"pos-c.released >= c.size/4", "pos-c.released >= c.size/2"}},
}

const hooks = `package ring

import (
	"sync/atomic"

	"github.com/shmrouter/shmrouter/shm"
)

// Hooks stand before each step; nil ones do nothing.
var Hooks struct {
	Step func(what string)
	Wait func(what string, w *atomic.Uint32, seen uint32, deadline int64) error
	Wake func(what string, w *atomic.Uint32, n int) int
	Now  func() int64

	Joined bool // the process is one that barriers reach
}

func at[T any](what string, x T) T {
	if Hooks.Step != nil {
		Hooks.Step(what)
	}
	return x
}

func hookedNow() int64 {
	if Hooks.Now != nil {
		return Hooks.Now()
	}
	return shm.Now()
}

// Peeked are the words that the model has.
type Peeked struct {
	States, Tags, Owners, Granules [4]uint64
	Hint, Head, Turn, Waiters      uint64
	SleepPos, SleepMode            uint64
}

func (r *Ring) Peek() (p Peeked) {
	for k := range p.States {
		h := header(r.entry(uint64(k)).word.Load())
		p.States[k], p.Tags[k], p.Owners[k], p.Granules[k] = uint64(h.state()), h.tag(), uint64(h.owner()), h.granules()
	}
	s := sleepWord(r.sleep.Load())
	p.Hint, p.Head, p.Turn, p.Waiters = r.hint.Load(), r.head.Load(), r.turn.Load()&0xff, uint64(r.roomWaiters.Load())
	p.SleepPos, p.SleepMode = s.position(p.Head), uint64(s.mode())
	return p
}

func (a *Attachment) Die() { a.locks.Close() }
`

// TestRingPlaysTheModel builds that copy and runs TestAgainstTheRing in it.
func TestRingPlaysTheModel(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the ring anew")
	}
	if _, err := exec.LookPath("go"); err != nil || runtime.GOARCH != "amd64" {
		t.Skip("the schedules are the same on every processor, and an emulated one has no compiler: ", runtime.GOARCH)
	}
	dir := t.TempDir()
	ring, err := filepath.Abs("../../ring")
	if err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(ring + "/*.go")
	replace := map[string]string{filepath.Join(ring, "hooks.go"): filepath.Join(dir, "hooks.go")}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("hooks.go", hooks)
	for _, file := range files {
		name := filepath.Base(file)
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		write(name, hooked(t, file))
		replace[file] = filepath.Join(dir, name)
	}
	overlay, _ := json.Marshal(map[string]any{"Replace": replace})
	write("overlay.json", string(overlay))
	cmd := exec.Command("go", "test", "-overlay", filepath.Join(dir, "overlay.json"), "-tags", "modelsteps", "-count=1", "-run", "TestAgainstTheRing", "-v", ".")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestAgainstTheRing") {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

// hooked is a source file of the ring at the model's scale with a hook before each access.
func hooked(t *testing.T, file string) string {
	t.Helper()
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	x := &skeleton{fset: token.NewFileSet()}
	f, err := parser.ParseFile(x.fset, file, src, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	type edit struct {
		at   int
		text string
	}
	var edits []edit
	around := func(n ast.Node, before, after string) {
		edits = append(edits, edit{x.fset.Position(n.Pos()).Offset, before}, edit{x.fset.Position(n.End()).Offset, after})
	}
	name := filepath.Base(file)
	usesShm := false
	ast.Inspect(f, func(n ast.Node) bool {
		if d, ok := n.(*ast.DeferStmt); ok {
			if a, _ := x.access(d.Call); a != (access{}) {
				around(d.Call, "func() { ", " }()") // or the hook would come with the defer
			}
		}
		call, ok := n.(*ast.CallExpr)
		if !ok || slices.Contains(notRead, name) {
			return true
		}
		sel, _ := call.Fun.(*ast.SelectorExpr)
		a, _ := x.access(call)
		if sel != nil && x.text(sel) == "shm.Now" {
			around(sel, "hookedNow /*", "*/")
			usesShm = true
		}
		switch {
		case a.op == "wait":
			around(sel, "Hooks.Wait /*", "*/")
			edits = append(edits, edit{x.fset.Position(call.Lparen).Offset + 1, fmt.Sprintf("%q, ", a)})
			usesShm = true
		case a.op == "wake" && a.word != "w":
			around(sel, "Hooks.Wake /*", "*/")
			edits = append(edits, edit{x.fset.Position(call.Lparen).Offset + 1, fmt.Sprintf("%q, ", a)})
			usesShm = true
		case a.op == "plain" && (a.word == "hint" || a.word == "word"):
			around(call.Args[0], fmt.Sprintf("at(%q, ", a), ")")
		case sel == nil || sel.Sel.Name == "load" || sel.Sel.Name == "cas":
		case slices.Contains([]string{"hint", "turn", "head", "sleep", "waiters", "episode", "lock"}, a.word):
			around(sel.X, fmt.Sprintf("at(%q, ", a), ")")
		case a.word == "word" && a.op != "plain":
			around(sel.X, fmt.Sprintf("at(%q, &", a), ")")
		}
		return true
	})
	slices.SortStableFunc(edits, func(a, b edit) int { return a.at - b.at })
	var b strings.Builder
	from := 0
	for _, e := range edits {
		b.Write(src[from:e.at])
		b.WriteString(e.text)
		from = e.at
	}
	b.Write(src[from:])
	text := b.String()
	for _, r := range scaled[name] {
		if !strings.Contains(text, r[0]) {
			t.Fatalf("%s: %q is not there any more: say in scaled what the model has in its place", name, r[0])
		}
		text = strings.ReplaceAll(text, r[0], r[1])
	}
	if usesShm {
		text += "\nvar _ = shm.Now\n"
	}
	return text
}
