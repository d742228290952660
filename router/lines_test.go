package router

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLines(t *testing.T) {
	for _, c := range []struct {
		name   string
		writes []string
		want   []string // message, and what is more than usual
	}{
		{"whole lines", []string{"one\ntwo\n"}, []string{"one", "two"}},
		{"in pieces", []string{"o", "ne\nt", "wo", "\n"}, []string{"one", "two"}},
		{"empty lines", []string{"\n\n"}, []string{"", ""}},
		{"from elsewhere", []string{"one\r\n"}, []string{"one"}},
		{"without an end", []string{"one\ntwo"}, []string{"one", "two"}},
		{"nothing", []string{""}, nil},
		{"the longest", []string{strings.Repeat("a", maxLine) + "\n"}, []string{strings.Repeat("a", maxLine)}},
		{"longer", []string{strings.Repeat("a", maxLine+3) + "\nb\n"}, []string{strings.Repeat("a", maxLine) + "… cut=true", "… left_out=3", "b"}},
		{"longer in pieces", []string{strings.Repeat("a", maxLine-1), "bc", "de", "\n"},
			[]string{strings.Repeat("a", maxLine-1) + "b… cut=true", "… left_out=3"}},
		{"longer without an end", []string{strings.Repeat("a", maxLine+1)}, []string{strings.Repeat("a", maxLine) + "… cut=true", "… left_out=1"}},
		{"cut in a character", []string{strings.Repeat("a", maxLine-1) + "é\n"}, []string{strings.Repeat("a", maxLine-1) + "… cut=true", "… left_out=2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var j journal
			cmd := exec.Command("worker")
			cmd.Process = &os.Process{Pid: 42}
			o := newLines(j.logger(), cmd, "some worker", "stderr")
			for _, w := range c.writes {
				n, err := io.WriteString(o, w)
				require.NoError(t, err)
				require.Equal(t, len(w), n)
				require.LessOrEqual(t, cap(o.line), 2*maxLine)
			}
			o.close()
			n, err := io.WriteString(o, "from a child that lives on\n")
			require.NoError(t, err)
			require.Equal(t, 27, n)
			var got []string
			for _, l := range j.lines {
				var more string
				_, l, _ = strings.Cut(l, "level=WARN msg=")
				l, more, _ = strings.Cut(strings.TrimSuffix(l, "\n"), ` pid=42 worker="some worker" stream=stderr`)
				got = append(got, strings.Trim(l, `"`)+more)
			}
			require.Equal(t, c.want, got)
		})
	}
}

func BenchmarkLines(b *testing.B) {
	cmd := exec.Command("worker")
	cmd.Process = &os.Process{Pid: 42}
	o := newLines(defaults().log, cmd, "worker", "stdout")
	text := []byte(strings.Repeat(fmt.Sprintln("a line such as programs write"), 100))
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		o.Write(text)
	}
}
