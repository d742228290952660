package model

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	modelDoc   = "../../docs/model.md"
	testingDoc = "../../docs/testing.md"
)

// compareCounts holds docs/model.md to what a run has found.
func compareCounts(t *testing.T, c Config, r Result) {
	t.Helper()
	if is := docRow(c, r); !strings.Contains(read(t, modelDoc), "\n"+is+"\n") {
		t.Errorf("docs/model.md lacks\n%s", is)
	}
}

// docRow is the line of a configuration in docs/model.md.
func docRow(c Config, r Result) string {
	var scripts []string
	for _, s := range c.Scripts {
		var messages []string
		for _, g := range s {
			messages = append(messages, g.short())
		}
		scripts = append(scripts, strings.Join(messages, " "))
	}
	bounds := strings.Join(scripts, " / ")
	if c.Slots != nil {
		bounds += fmt.Sprintf(" (slots %s)", strings.Trim(fmt.Sprint(c.Slots), "[]"))
	}
	var events []string
	for _, e := range []struct {
		n    uint8
		what string
	}{{c.Kills, "K"}, {c.Rebirths, "R"}, {c.Crashes, "X"}, {c.Asks, "Q"}} {
		if e.n > 0 {
			events = append(events, fmt.Sprint(e.n, e.what))
		}
	}
	if events == nil {
		events = []string{"–"}
	}
	rests := "–"
	if c.Timeouts {
		rests = thousands(r.Resting)
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s |", c.Name, bounds, strings.Join(events, " "), thousands(r.States), thousands(r.Edges), rests)
}

func (g Msg) short() string {
	var s string
	if g.Granules > 0 {
		s = fmt.Sprint(g.Granules)
	}
	for _, f := range []struct {
		set    bool
		letter string
	}{{g.Abort, "A"}, {g.Claim, "Z"}, {g.Drop, "D"}, {g.Try, "T"}, {g.Cancel, "C"}, {g.Await, "W"}} {
		if f.set {
			s += f.letter
		}
	}
	return s
}

// compareFault holds docs/model.md to how a mutant was found out, and sees that the way there is told without a gap.
func compareFault(t *testing.T, m Mutant, v *Violation) {
	t.Helper()
	if len(v.Trace) == 0 || slices.Contains(v.Trace, "") {
		t.Errorf("the trace has gaps: %q", v.Trace)
	}
	shows := string(v.Kind) + ": "
	if v.Stuck > 0 {
		shows += thousands(v.Stuck) + " never drain |"
	}
	for line := range strings.Lines(read(t, modelDoc)) {
		if strings.HasPrefix(line, "| "+string(m)+" |") && strings.Contains(line, "| "+shows) {
			return
		}
	}
	t.Errorf("docs/model.md does not say %q of %q", shows, m)
}

func thousands(n int) string {
	s := fmt.Sprint(n)
	for k := len(s) - 3; k > 0; k -= 3 {
		s = s[:k] + "," + s[k:]
	}
	return s
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestMutantsAreInTheDocs: docs/testing.md and docs/model.md name each of them.
func TestMutantsAreInTheDocs(t *testing.T) {
	doc, summary := read(t, modelDoc), read(t, testingDoc)
	harmful, _, _ := strings.Cut(read(t, "mutant.go"), "// Mutants that are harmless")
	names := regexp.MustCompile(`Mutant = "(.*?)"`).FindAllStringSubmatch(harmful, -1)
	for _, m := range names {
		if !strings.Contains(doc, "| "+m[1]+" |") {
			t.Errorf("docs/model.md has no mutant %q", m[1])
		}
		if !strings.Contains(summary, m[1]) {
			t.Errorf("docs/testing.md has no mutant %q", m[1])
		}
	}
	if want := fmt.Sprintf("%d mutants", len(names)); !strings.Contains(summary, want) {
		t.Errorf("docs/testing.md does not say %q", want)
	}
}

// TestTotalsAreInTheDocs adds up the counts of docs/model.md, which has a row for each configuration and no other.
func TestTotalsAreInTheDocs(t *testing.T) {
	counted := regexp.MustCompile(`(?m)^\| (.+?) \| .* \| .* \| ([0-9,]+) \| [0-9,]+ \| (?:[0-9,]+|–) \|$`)
	states := map[string]int{}
	for _, m := range counted.FindAllStringSubmatch(read(t, modelDoc), -1) {
		states[m[1]], _ = strconv.Atoi(strings.ReplaceAll(m[2], ",", ""))
	}
	if rows := len(configurations) + len(largeConfigurations); len(states) != rows {
		t.Errorf("docs/model.md counts %d configurations of %d", len(states), rows)
	}
	for _, bounds := range []struct {
		format string
		all    []Config
	}{{"%d configurations", configurations}, {"%d more", largeConfigurations}} {
		total, most := 0, 0
		for _, c := range bounds.all {
			total, most = total+states[c.Name], max(most, states[c.Name])
		}
		for _, want := range []string{fmt.Sprintf(bounds.format, len(bounds.all)), thousands(total) + " in all, " + thousands(most) + " at most"} {
			if !strings.Contains(read(t, testingDoc), want) {
				t.Errorf("docs/testing.md does not say %q", want)
			}
		}
	}
}
