package model

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

var row5 = regexp.MustCompile(`^\| (.+?) \| .* \| .* \| ([0-9,]+|\?) \| ([0-9,]+|\?) \| ([0-9,]+|–|) \|$`)

// documented returns states, edges and states that rest on a timeout, as docs/model.md has them for a configuration.
func documented(t *testing.T, name string) (states, edges, rests string) {
	t.Helper()
	b, err := os.ReadFile("../../docs/model.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if m := row5.FindStringSubmatch(strings.TrimSpace(line)); m != nil && m[1] == name {
			return m[2], m[3], m[4]
		}
	}
	t.Fatalf("docs/model.md has no counts of %q", name)
	return
}

// compareCounts holds docs/model.md to what a run has found.
func compareCounts(t *testing.T, c Config, r Result) {
	t.Helper()
	states, edges, rests := documented(t, c.Name)
	is := fmt.Sprintf("| %s | … | … | %s | %s | %s |", c.Name, thousands(r.States), thousands(r.Edges), thousands(r.Resting))
	if states == "?" { // a large configuration that nobody has had the time to count
		t.Logf("docs/model.md lacks\n%s", is)
		return
	}
	if states != thousands(r.States) || edges != thousands(r.Edges) || rests != "–" && rests != thousands(r.Resting) || rests == "–" && r.Resting > 0 {
		t.Errorf("docs/model.md has other counts than\n%s", is)
	}
}

func thousands(n int) string {
	s := fmt.Sprint(n)
	for k := len(s) - 3; k > 0; k -= 3 {
		s = s[:k] + "," + s[k:]
	}
	return s
}

// TestMutantsAreInTheDocs: docs/testing.md and docs/model.md name each of them.
func TestMutantsAreInTheDocs(t *testing.T) {
	src, err := os.ReadFile("mutant.go")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("../../docs/model.md")
	if err != nil {
		t.Fatal(err)
	}
	summary, err := os.ReadFile("../../docs/testing.md")
	if err != nil {
		t.Fatal(err)
	}
	harmful, _, _ := strings.Cut(string(src), "// Mutants that are harmless")
	names := regexp.MustCompile(`Mutant = "(.*?)"`).FindAllStringSubmatch(harmful, -1)
	for _, m := range names {
		if !strings.Contains(string(doc), "| "+m[1]+" |") {
			t.Errorf("docs/model.md has no mutant %q", m[1])
		}
		if !strings.Contains(string(summary), m[1]) {
			t.Errorf("docs/testing.md has no mutant %q", m[1])
		}
	}
	if want := fmt.Sprintf("%d mutants", len(names)); !strings.Contains(string(summary), want) {
		t.Errorf("docs/testing.md does not say %q", want)
	}
	if want := fmt.Sprintf("%d configurations", len(configurations)); !strings.Contains(string(summary), want) {
		t.Errorf("docs/testing.md does not say %q", want)
	}
}
