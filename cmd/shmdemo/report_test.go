package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/shmrouter/shmrouter/cmd/shmdemo/internal/stress"
)

// element is one of a page, which is written so that a parser of XML reads it.
type element struct {
	name     string
	attr     map[string]string
	children []*element
	text     string // its own and that of all below
}

// readPage parses the whole of a page, strictly.
func readPage(t *testing.T, path string) *element {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	d := xml.NewDecoder(bytes.NewReader(b))
	d.Entity = xml.HTMLEntity
	root := &element{}
	open := []*element{root}
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		require.NoError(t, err, "line %d", lineOf(d))
		switch token := token.(type) {
		case xml.StartElement:
			e := &element{name: token.Name.Local, attr: map[string]string{}}
			for _, a := range token.Attr {
				require.NotContains(t, e.attr, a.Name.Local)
				e.attr[a.Name.Local] = a.Value
			}
			top := open[len(open)-1]
			top.children = append(top.children, e)
			open = append(open, e)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			for _, e := range open {
				e.text += string(token)
			}
		}
	}
	require.Len(t, open, 1)
	return root
}

func lineOf(d *xml.Decoder) int { line, _ := d.InputPos(); return line }

// all returns the elements below e for which ok holds.
func (e *element) all(ok func(*element) bool) (found []*element) {
	for _, c := range e.children {
		if ok(c) {
			found = append(found, c)
		}
		found = append(found, c.all(ok)...)
	}
	return found
}

func (e *element) named(name string) []*element {
	return e.all(func(c *element) bool { return c.name == name })
}

func (e *element) id(t *testing.T, id string) *element {
	t.Helper()
	found := e.all(func(c *element) bool { return c.attr["id"] == id })
	require.Len(t, found, 1, "id %s", id)
	return found[0]
}

func (e *element) classed(class string) []*element {
	return e.all(func(c *element) bool { return c.attr["class"] == class })
}

// table returns the texts of a table's cells, without its head.
func (e *element) table(t *testing.T, id string) (rows [][]string) {
	t.Helper()
	body := e.id(t, id).named("tbody")
	require.Len(t, body, 1)
	for _, tr := range body[0].named("tr") {
		var row []string
		for _, cell := range tr.children {
			row = append(row, cell.text)
		}
		rows = append(rows, row)
	}
	return rows
}

// column adds up a column of counts.
func column(t *testing.T, rows [][]string, k int) (sum uint64) {
	t.Helper()
	for _, row := range rows {
		n, err := strconv.ParseUint(strings.ReplaceAll(row[k], ",", ""), 10, 64)
		require.NoError(t, err)
		sum += n
	}
	return sum
}

// requireSelfContained looks for anything that a browser would fetch.
func requireSelfContained(t *testing.T, page *element) {
	t.Helper()
	require.Regexp(t, `^default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'$`,
		page.all(func(e *element) bool { return e.attr["http-equiv"] == "Content-Security-Policy" })[0].attr["content"])
	for _, name := range []string{"link", "img", "iframe", "object", "embed", "image", "use", "base", "video", "audio", "form"} {
		require.Empty(t, page.named(name), name)
	}
	page.all(func(e *element) bool {
		for name, value := range e.attr {
			switch name {
			case "src", "href", "srcset", "style":
				require.Fail(t, "an attribute that may name something elsewhere", "%s %s=%q", e.name, name, value)
			}
			require.NotContains(t, value, "//", "%s %s", e.name, name)
			require.False(t, strings.HasPrefix(name, "on"), "%s %s", e.name, name)
		}
		return false
	})
	require.Len(t, page.named("script"), 1)
	for _, e := range append(page.named("style"), page.named("script")...) {
		require.NotRegexp(t, `https?:|@import|url\([^#]|fetch|XMLHttp|import\(`, e.text)
	}
}

// requireAccessible looks for what a reader needs who does not see the drawings.
func requireAccessible(t *testing.T, page *element) {
	t.Helper()
	ids := map[string]bool{}
	page.all(func(e *element) bool {
		if id := e.attr["id"]; id != "" {
			require.False(t, ids[id], "two are called %s", id)
			ids[id] = true
		}
		return false
	})
	charts := page.classed("chart")
	require.NotEmpty(t, charts)
	for _, c := range charts {
		require.Equal(t, "img", c.attr["role"])
		require.Equal(t, []string{"title", "desc"}, []string{c.children[0].name, c.children[1].name})
		require.NotEmpty(t, c.children[0].text)
		require.NotEmpty(t, c.children[1].text)
		for _, id := range strings.Fields(c.attr["aria-labelledby"]) {
			require.True(t, ids[id], id)
		}
	}
	require.Len(t, page.named("h1"), 1)
	require.Equal(t, "en", page.named("html")[0].attr["lang"])
}

// The page and the JSON of a run are of the same figures, and the curves are of the run: each message and
// each kill is in them.
func TestReport(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stress.html")
	p := start(t, "--json", "--kills", "16", "--stop-every", "100ms", "--report", path)
	require.Equal(t, exitOK, p.wait(), "%s%s", p.stdout.String(), p.stderr.String())
	res := p.result()
	requireGood(t, res)
	line := res.Timeline
	require.NotNil(t, line)

	var messages, sent uint64
	var killed, stopped, inClaim int64
	end := int64(0)
	for _, i := range line.Intervals {
		require.Equal(t, end, i.From, "no gap")
		require.Len(t, i.BySeat, res.Workers)
		messages, killed, stopped, end = messages+i.Messages, killed+i.Killed, stopped+i.Stopped, i.To
		require.LessOrEqual(t, i.Fill.Most, line.Capacity)
	}
	require.Equal(t, res.Delivered, messages)
	require.Equal(t, res.Killed, killed)
	require.Equal(t, res.Stopped, stopped)
	require.LessOrEqual(t, end, res.Elapsed)
	killed, stopped = 0, 0
	for _, s := range line.Seats {
		killed, inClaim, stopped, sent = killed+int64(s.Killed), inClaim+int64(s.KilledInClaim), stopped+int64(s.Stopped), sent+s.Sent
	}
	require.Equal(t, res.Killed, killed)
	require.Equal(t, res.KilledInClaim, inClaim)
	require.Equal(t, res.Stopped, stopped)
	require.Equal(t, res.Sent, sent)
	require.Equal(t, "sending", line.Phases[1].Name)
	require.Less(t, line.Sending, end)

	page := readPage(t, path)
	requireSelfContained(t, page)
	requireAccessible(t, page)
	require.Contains(t, page.id(t, "verdict").text, "OK")
	require.Equal(t, res.Machine, page.id(t, "machine").text)
	require.Equal(t, fmt.Sprintf("shmdemo --kills 16 --stop-every 100ms --seed %d", res.Seed), page.id(t, "command").text)
	for id, want := range map[string]string{
		"delivered": stress.Count(res.Delivered), "wrong": "0", "rate": stress.Count(uint64(res.MessagesPerSecond)),
		"kills": strconv.FormatInt(res.Killed, 10), "stops": strconv.FormatInt(res.Stopped, 10),
	} {
		require.Equal(t, want, page.id(t, id).named("b")[0].text, id)
	}
	counts := map[string]string{}
	for _, row := range page.table(t, "counts") {
		counts[row[0]] = row[1]
	}
	for name, n := range map[string]uint64{
		"sent": res.Sent, "acknowledged": res.Acknowledged, "delivered": res.Delivered, "lost": res.Lost, "torn": res.Torn,
		"duplicated": res.Duplicated, "reordered": res.Reordered, "killed": uint64(res.Killed),
		"killed inside a claim": uint64(res.KilledInClaim), "dead claims skipped": res.ClaimsSkipped, "stopped": uint64(res.Stopped),
		"stalls in stops": uint64(res.Stalls.InStops), "other stalls": uint64(res.Stalls.Other),
	} {
		require.Equal(t, stress.Count(n), counts[name], name)
	}
	intervals := page.table(t, "intervals")
	require.Len(t, intervals, len(line.Intervals))
	require.Equal(t, res.Delivered, column(t, intervals, 1))
	require.EqualValues(t, res.Killed, column(t, intervals, 9))
	seats := page.table(t, "seats")
	require.Len(t, seats, res.Workers)
	require.Equal(t, res.Sent, column(t, seats, 2))
	require.Equal(t, res.Delivered, column(t, seats, 3))
	require.EqualValues(t, res.Killed, column(t, seats, 4))

	// A mark for each kill. Those that would lie over each other, within a ten-thousandth of the width, are one.
	places, all, kills, claims := map[string]bool{}, map[string]bool{}, 0, 0
	for _, seat := range line.Seats {
		clear(places)
		for _, k := range seat.Kills {
			x := fmt.Sprintf("%.1f", 1000*float64(k.At)/float64(end))
			all[x] = true
			if !places[x] {
				kills++
			}
			if k.InClaim > 0 && !places[x+"in claim"] {
				claims++
				places[x+"in claim"] = true
			}
			places[x] = true
		}
	}
	require.Positive(t, kills)
	marks := func(figure, class string) (n int) {
		for _, e := range page.id(t, figure).classed(class) {
			n += strings.Count(e.attr["d"], "M")
		}
		return n
	}
	require.Equal(t, kills, marks("seats-figure", "kill"))
	require.Equal(t, claims, marks("seats-figure", "dot"))
	for _, id := range []string{"rate-figure", "fill-figure", "latency-figure"} {
		require.Equal(t, len(all), marks(id, "rug"), "the kills are marked in each")
		require.EqualValues(t, res.Stopped, len(page.id(t, id).classed("shade")), "and the stops")
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

// Without a report there are no curves in the JSON: it is what it was.
func TestNoReportNoTimeline(t *testing.T) {
	p := start(t, "--json", "--messages", "2000")
	require.Equal(t, exitOK, p.wait(), "%s", p.stdout.String())
	require.NotContains(t, p.stdout.String(), "timeline")
}

// What was asked for is text on the page, whatever it is.
func TestReportEscapes(t *testing.T) {
	dir := t.TempDir()
	segment := filepath.Join(dir, `a<script>alert("1")<`) + `&'script>`
	path := filepath.Join(dir, "<b>.html")
	p := start(t, "--json", "--messages", "2000", "--path", segment, "--report="+path)
	require.Equal(t, exitOK, p.wait(), "%s%s", p.stdout.String(), p.stderr.String())
	page := readPage(t, path)
	requireSelfContained(t, page)
	require.Contains(t, page.id(t, "command").text, `'\''script>' --seed `)
	require.NotContains(t, page.id(t, "command").text, "--report")
	require.Len(t, page.all(func(e *element) bool { return e.name == "dd" && e.text == segment }), 1)
}

// A run that failed has a report too, and so has one that a signal ended.
func TestReportOfFailedRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "failed.html")
	require.NoError(t, os.WriteFile(path, []byte("of the run before"), 0o600))
	p := start(t, "--json", "--duration", "1m", "--kill-every", "0", "--stop-every", "0", "--patience", "1s", "--report", path)
	for _, pid := range p.untilAlive(4) {
		require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	}
	require.Equal(t, exitViolation, p.wait())
	page := readPage(t, path)
	require.Contains(t, page.id(t, "verdict").text, "FAILED")
	require.Contains(t, page.id(t, "violations").text, "no progress")
	require.Equal(t, p.result().Violations[0], page.id(t, "violations").named("li")[0].text)
	require.Contains(t, page.id(t, "command").text, "--patience 1s --seed ")
}

func TestReportOnSignal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "interrupted.html")
	p := start(t, "--json", "--duration", "1m", "--report", path)
	p.untilAlive(4)
	require.NoFileExists(t, path, "not before it is whole")
	require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
	require.Equal(t, exitOK, p.wait(), "%s", p.stdout.String())
	page := readPage(t, path)
	require.Regexp(t, regexp.MustCompile("A signal ended the run early"), page.text)
	require.Equal(t, p.result().Delivered, column(t, page.table(t, "intervals"), 1))
}

// A place where no report can be is told before the run, not after it, and what is there is left alone.
func TestReportUsage(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	for _, path := range []string{"/nonexistent/report.html", dir, pipe, "/dev/null"} {
		began := time.Now()
		p := start(t, "--duration", "1m", "--report", path)
		require.Equal(t, exitUsage, p.wait(), path)
		require.Less(t, time.Since(began), 30*time.Second)
		require.Contains(t, p.stderr.String(), "shmdemo: --report: ")
		require.Contains(t, p.stderr.String(), path, "as it was given")
		require.Empty(t, p.stdout.String())
	}
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 1)
	for _, command := range []string{"stress", "soak"} {
		p := start(t, command, "--duration", "1m", "--report", "")
		require.Equal(t, exitUsage, p.wait(), command)
		require.Contains(t, p.stderr.String(), "name is empty")
	}
}

// A link stays one: what it names is replaced.
func TestReportThroughLink(t *testing.T) {
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real.html"), filepath.Join(dir, "link.html")
	require.NoError(t, os.WriteFile(real, nil, 0o600))
	require.NoError(t, os.Symlink(real, link))
	file, err := openReport(&link)
	require.NoError(t, err)
	require.NoError(t, file.write(func(w io.Writer) error { _, err := io.WriteString(w, "page"); return err }))
	text, err := os.ReadFile(real)
	require.NoError(t, err)
	require.Equal(t, "page", string(text))
	info, err := os.Lstat(link)
	require.NoError(t, err)
	require.NotZero(t, info.Mode()&os.ModeSymlink)
}

// A report that cannot be written in the end leaves what was there, and nothing half.
func TestReportFails(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "report.html")
	require.NoError(t, os.WriteFile(path, []byte("before"), 0o600))
	file, err := openReport(&path)
	require.NoError(t, err)
	require.ErrorIs(t, file.write(func(w io.Writer) error { return io.ErrShortWrite }), io.ErrShortWrite)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "before", string(text))
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 1)
}

func TestCommandAgain(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "shmdemo --seed 7"},
		{[]string{"--json", "--report", "a.html", "--workers", "8"}, "shmdemo --workers 8 --seed 7"},
		{[]string{"stress", "--seed=5", "--report=a.html", "--size", "1:5"}, "shmdemo stress --size 1:5 --seed 7"},
		{[]string{"--seed", "5", "--path", "/dev/shm/it's here"}, `shmdemo --path '/dev/shm/it'\''s here' --seed 7`},
		{[]string{"--path", ""}, "shmdemo --path '' --seed 7"},
	} {
		require.Equal(t, c.want, commandLine(c.args).again(7))
	}
}
