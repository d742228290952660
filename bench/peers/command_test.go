package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shmrouter/shmrouter/bench"
)

func TestStates(t *testing.T) {
	for want, floors := range map[string][3]float64{
		stateNear: {90, 120, 249}, stateFar: {250, 300, 999}, stateSameCore: {50, 70, 89}, stateMixed: {120, 120, 300}, stateSingle: {},
	} {
		require.Equal(t, want, pair{Floor: floors}.state())
	}
	m := metric{key: "ns", rate: true}
	r := result{}
	for range enoughNear {
		r.pairs = append(r.pairs,
			pair{measure{"ns": 1}, measure{"ns": 2}, [3]float64{100, 100, 100}},
			pair{measure{"ns": 1}, measure{"ns": 3}, [3]float64{300, 300, 300}})
	}
	all := r.summaries(m, enoughNear)
	require.Len(t, all, 1, "near pairs stand for the whole")
	require.Equal(t, 2.0, all[0].Ratio.P50)
	all = r.summaries(m, enoughNear+1)
	require.Len(t, all, 2, "too few are near")
}

func TestVerdict(t *testing.T) {
	at := func(m metricReport, ratio float64) string {
		m.States = []summary{{Ratio: bench.Spread{N: 1, P50: ratio}}}
		return m.verdict()
	}
	more, less := metricReport{Rate: true, Must: 0.9, Goal: 1.1}, metricReport{Must: 1.2, Goal: 1}
	require.Equal(t, "goal", at(more, 1.2))
	require.Equal(t, "must", at(more, 1))
	require.Equal(t, "**missed by 50 %**", at(more, 0.45))
	require.Equal(t, "goal", at(less, 0.9))
	require.Equal(t, "must", at(less, 1.1))
	require.Equal(t, "**missed by 100 %**", at(less, 2.4))
	require.Equal(t, "", at(metricReport{}, 1))
}

// TestCommand runs everything once, as small as it can be, and reads what it
// writes.
func TestCommand(t *testing.T) {
	dir := t.TempDir()
	o := options{
		out: dir, pictures: true, rounds: 1,
		limits: limits{near: 1, pairs: 1, each: 2 * time.Millisecond, crowd: 0.004, verify: 100},
	}
	stdout := os.Stdout
	read, write, err := os.Pipe()
	require.NoError(t, err)
	os.Stdout = write
	o.json = true
	printed := make(chan []byte)
	go func() {
		b, _ := io.ReadAll(read)
		printed <- b
	}()
	err = o.run(t.Context(), []string{"-test"})
	os.Stdout = stdout
	write.Close()
	text := <-printed
	require.NoError(t, err)

	var rep report
	require.NoError(t, json.Unmarshal(text, &rep))
	contests := 0
	for _, l := range rep.Lines {
		for _, c := range l.Contests {
			contests++
			if c.Skipped == "" {
				require.NotEmpty(t, c.Metrics, c.ID)
				require.Len(t, c.Pairs, 1, c.ID)
			}
		}
	}
	require.Greater(t, contests, 70)
	page, err := os.ReadFile(filepath.Join(dir, pageName))
	require.NoError(t, err)
	require.Contains(t, string(page), "shmipc-go")
	require.NotContains(t, string(page), "NaN")
	pictures, err := filepath.Glob(filepath.Join(dir, pictureName, "*.svg"))
	require.NoError(t, err)
	require.Len(t, pictures, 5)
	for _, path := range pictures {
		require.Contains(t, string(page), fmt.Sprintf("(%s/%s)", pictureName, filepath.Base(path)))
		svg, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NotContains(t, string(svg), "NaN", path)
		for dec := xml.NewDecoder(bytes.NewReader(svg)); ; {
			_, err := dec.Token()
			if err == io.EOF {
				break
			}
			require.NoError(t, err, path)
		}
	}
}

func TestChoosing(t *testing.T) {
	require.Len(t, plan("1,4b/2,unix"), 3)
	require.Empty(t, plan("nonsense"))
	all := map[string]bool{}
	for _, l := range plan("") {
		for _, c := range l.contests {
			require.False(t, all[c.id], "two are called %s", c.id)
			all[c.id] = true
		}
	}
	require.Error(t, command(t.Context(), []string{"-rows", "nonsense"}))
	require.Error(t, command(t.Context(), []string{"surplus"}))
}

// Arguments that make no sense are told before anything is measured or written.
func TestUsage(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	for _, arguments := range [][]string{
		{"-nonsense"}, {"more"}, {"-pairs", "0"}, {"-pairs", "-3"}, {"-rows", "1/1,nosuch"}, {"-rows", "1,"},
		{"-out", missing}, {"-out", t.TempDir(), "-quick"}, {"-out", t.TempDir(), "-rows", "1"},
	} {
		_, ok := errors.AsType[usageError](command(t.Context(), arguments))
		require.True(t, ok, "%v", arguments)
	}
	require.NoDirExists(t, missing)
	require.NoError(t, command(t.Context(), []string{"-list"}))
	require.NoError(t, command(t.Context(), []string{"-rows", "1,3c/1", "-list"}))
}
